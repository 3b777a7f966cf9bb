"""SGRAgent: one LLM call per step; a strict schema holds the reasoning and the tool with its arguments."""

from agent_worker.agents.contract import Decision, Mind, Prompt, Reasoned
from agent_worker.agents.toolbox import REASONING
from agent_worker.llm.next_step import NextStep, NextStepInvalid
from agent_worker.tools.arguments import clean_text


class SGRAgent:
    """Schema-guided reasoning and the action in one structured reply."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Nothing apart: the reasoning comes with the action."""
        return Reasoned()

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Have the model fill in the form of the next step."""
        # The form has the fields of the tool `reasoning` itself.
        form = NextStep([tool for tool in prompt.tools if tool.name != REASONING])
        reply = await mind.ask_step(prompt, form)
        told = mind.told
        try:
            step = form.read(reply.content)
        except NextStepInvalid as exc:
            return Decision(
                reply.content,
                (),
                reply.finish_reason,
                reply.usage,
                told.text,
                told.is_whole,
                told.tool,
                complaint=clean_text(str(exc)),
            )
        return Decision(
            "",
            (step.call,),
            reply.finish_reason,
            reply.usage,
            told.text,
            told.is_whole,
            told.tool,
            thought=clean_text(step.thought),
        )
