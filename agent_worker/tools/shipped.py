"""The tools that ship with the worker, by the locator in their descriptors."""

from collections.abc import Mapping

from agent_worker.tools.calculator import calculator
from agent_worker.tools.contract import ToolFunction
from agent_worker.tools.plans import adapt_plan, generate_plan
from agent_worker.tools.report import create_report

SHIPPED: Mapping[str, ToolFunction] = {
    "create_report": create_report,
    "calculator": calculator,
    "generate_plan": generate_plan,
    "adapt_plan": adapt_plan,
}
