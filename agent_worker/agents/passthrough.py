"""Passthrough: one LLM call, no tools; the platform as a proxy with sessions."""

from agent_worker.agents.contract import Decision, Mind, Prompt, Reasoned

_FINISH_REASONS = frozenset({"stop", "length", "content_filter"})


class PassthroughAgent:
    """What the model says is the answer, as it is."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Nothing."""
        return Reasoned()

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Pass the messages on and the text back."""
        reply = await mind.ask_text(prompt, aloud=True)
        # A reason that speaks of calls would be wrong: none were offered.
        finish_reason = reply.finish_reason if reply.finish_reason in _FINISH_REASONS else "stop"
        return Decision(reply.content, (), finish_reason, reply.usage, verbatim=True)
