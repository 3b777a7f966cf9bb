"""Which class thinks for which kind of template."""

from collections.abc import Mapping

from agent_worker.agents.contract import AgentFactory
from agent_worker.agents.dialog import DialogAgent
from agent_worker.agents.passthrough import PassthroughAgent
from agent_worker.agents.sgr import SGRAgent
from agent_worker.agents.sgr_tool_calling import SGRToolCallingAgent
from agent_worker.agents.text import TextAgent
from agent_worker.agents.tool_calling import ToolCallingAgent
from maruntime.domain.template import AgentKind

AGENTS: Mapping[AgentKind, AgentFactory] = {
    AgentKind.TOOL_CALLING: ToolCallingAgent,
    AgentKind.SGR_TOOL_CALLING: SGRToolCallingAgent,
    AgentKind.SGR: SGRAgent,
    AgentKind.DIALOG: DialogAgent,
    AgentKind.TEXT: TextAgent,
    AgentKind.PASSTHROUGH: PassthroughAgent,
}
