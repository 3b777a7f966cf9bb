"""ToolCallingAgent: one LLM call per step, the model picks the tools."""

from agent_worker.agents.contract import Decision, Mind, Prompt, Reasoned, decided


class ToolCallingAgent:
    """Pure function calling."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Nothing apart: the model reasons within its one call."""
        return Reasoned()

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Ask for at least one tool call."""
        reply = await mind.ask(prompt, tool_choice="required")
        return decided(reply, mind.told)
