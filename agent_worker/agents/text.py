"""Text agent: for models without function calling; tools stand in the prompt, calls in the text.

What the form looks like is said by the pack `text` (`prompts/packs/text/form.txt`);
how the transcript looks without roles for tools is `context.without_tool_roles`.
"""

from agent_worker.agents.contract import Decision, Mind, Prompt, Reasoned
from agent_worker.agents.text_form import NoCall, find_call
from agent_worker.tools.arguments import clean_text

_CUT = "length"


class TextAgent:
    """One LLM call per step, read as a tool call."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Nothing apart: what stands before the call is the thought."""
        return Reasoned()

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Read a call out of the model's text; nothing is shown before it is read."""
        reply = await mind.ask_text(prompt, aloud=False)
        try:
            found = find_call(reply.content, [tool.name for tool in prompt.tools])
        except NoCall as exc:
            hint = " Your answer was cut off: be shorter." if reply.finish_reason == _CUT else ""
            complaint = clean_text(str(exc)) + hint
            return Decision(reply.content, (), reply.finish_reason, reply.usage, complaint=complaint)
        return Decision(found.aside, (found.call,), "tool_calls", reply.usage)
