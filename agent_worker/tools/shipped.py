"""The tools that ship with the worker, by the locator in their descriptors."""

from collections.abc import Mapping

from agent_worker.tools.contract import ToolFunction
from agent_worker.tools.report import create_report

SHIPPED: Mapping[str, ToolFunction] = {"create_report": create_report}
