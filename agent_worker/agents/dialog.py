"""Dialog agent: as SGRToolCalling, and it may hand the turn back to the user with the work unfinished.

The tool `answer` does that: the run waits, and the user's next message goes on
with it. Which calls end a turn is known to the loop, not to this class.
"""

from dataclasses import replace

import orjson

from agent_worker.agents.contract import ANSWER, Decision, Mind, Prompt
from agent_worker.agents.sgr_tool_calling import SGRToolCallingAgent
from agent_worker.llm.contract import LLMToolCall


class DialogAgent(SGRToolCallingAgent):
    """Schema-guided reasoning in a conversation that goes on."""

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Ask for at least one call; plain text hands the turn back as `answer` does."""
        decision = await super().select_action(prompt, mind)
        text = decision.text.strip()
        if decision.calls or not text or all(tool.name != ANSWER for tool in prompt.tools):
            return decision
        arguments = orjson.dumps({"reasoning": "", "answer": text.encode("utf-8", "replace").decode()}).decode()
        return replace(decision, text="", calls=(LLMToolCall(ANSWER, arguments),))
