"""SGRToolCallingAgent: a structured reasoning first, then the tools; two LLM calls per step."""

from agent_worker.agents.contract import Decision, MadeCall, Mind, Prompt, Reasoned, decided
from agent_worker.tools.arguments import ArgumentsInvalid, clean_text, read_arguments
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.tool import ToolDescriptor
from maruntime.ids import new_call_id

REASONING = "reasoning"


class SGRToolCallingAgent:
    """Schema-guided reasoning before each action."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Have the model fill in the reasoning schema; the action is chosen in its light."""
        tool = _reasoning_tool(prompt)
        if tool is None:
            return Reasoned()
        reply = await mind.ask(prompt.with_tools((tool,)), tool_choice="required")
        call = next((call for call in reply.tool_calls if call.name == REASONING), None)
        if call is None:
            return Reasoned(usage=reply.usage, complaint=f"Call the tool {REASONING} first, and nothing else.")
        try:
            arguments = read_arguments(tool, call.arguments)
        except ArgumentsInvalid as exc:
            return Reasoned(usage=reply.usage, complaint=clean_text(str(exc)))
        call_id = new_call_id()
        said = FunctionCall(name=REASONING, arguments=call.arguments)
        return Reasoned(
            text="\n".join([*arguments["reasoning_steps"], arguments["current_situation"]]),
            messages=(
                Message(role=Role.ASSISTANT, tool_calls=(ToolCallRef(id=call_id, function=said),)),
                Message(role=Role.TOOL, content="Go on with the next action.", tool_call_id=call_id),
            ),
            calls=(MadeCall(tool, call_id, arguments),),
            usage=reply.usage,
        )

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Ask for at least one call of a tool that acts."""
        acting = tuple(tool for tool in prompt.tools if tool.name != REASONING)
        reply = await mind.ask(prompt.with_tools(acting), tool_choice="required")
        return decided(reply, mind.told)


def _reasoning_tool(prompt: Prompt) -> ToolDescriptor | None:
    return next((tool for tool in prompt.tools if tool.name == REASONING), None)
