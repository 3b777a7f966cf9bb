"""Reach the model for one run: the template's policy, the client's parameters, the run's trace.

A final answer reaches the client while the model still writes it, although it
is the argument of a tool call: an incremental JSON reader takes it out. Free
text is held back until the call is over, because only then is it known whether
it was the answer or a thought before a tool call.
"""

from collections.abc import Mapping
from typing import Any

from agent_worker.agents.contract import Prompt
from agent_worker.agents.toolbox import FINAL_ANSWER
from agent_worker.llm.contract import LLM, Delta, LLMReply, LLMRequest, ReasoningDelta, TextDelta, ToolCallDelta
from agent_worker.llm.partial_json import StringFieldReader
from agent_worker.outbox import Outbox
from agent_worker.tools.arguments import clean_text
from maruntime.domain.template import LLMPolicy

_ANSWER_FIELD = "answer"


class RunMind:
    """The `Mind` of a run."""

    def __init__(
        self,
        llm: LLM,
        policy: LLMPolicy,
        client_parameters: Mapping[str, Any],
        headers: Mapping[str, str],
        outbox: Outbox,
    ) -> None:
        self._llm = llm
        self._policy = policy
        self._parameters = _merged(policy, client_parameters)
        self._headers = headers
        self._outbox = outbox
        self._forget()

    @property
    def answer(self) -> str:
        """What of a final answer the latest call has given so far."""
        return "".join(self._answer)

    @property
    def answer_is_whole(self) -> bool:
        """Whether that text came to its end."""
        return self._reader.done and bool(self._answer)

    def begin_step(self, step_no: int) -> None:
        """What is said from here on belongs to this step."""
        self._step_no = step_no
        self._outbox.begin_step(step_no)
        self._forget()

    async def ask(self, prompt: Prompt, *, tool_choice: str | None) -> LLMReply:
        """Make one LLM call; the final answer and the provider's reasoning are passed on as they come.

        Raises:
            LLMError: it did not work, retries included.
        """
        self._forget()
        request = LLMRequest(
            endpoint=self._policy.endpoint,
            model=self._policy.model,
            messages=prompt.messages,
            tools=tuple(tool.to_openai() for tool in prompt.tools),
            tool_choice=tool_choice,
            parameters=self._parameters,
            headers=self._headers,
        )
        return await self._llm.complete(request, self._on_delta, on_restart=self._on_restart)

    def _on_delta(self, delta: Delta) -> None:
        match delta:
            case ReasoningDelta():
                self._outbox.say(reasoning=clean_text(delta.text))
            case ToolCallDelta(index=0):
                if delta.name is not None:
                    self._is_answer = delta.name == FINAL_ANSWER
                if self._is_answer and (text := clean_text(self._reader.feed(delta.arguments))):
                    self._answer.append(text)
                    self._outbox.say(content=text)
            case ToolCallDelta() | TextDelta():
                pass

    def _on_restart(self) -> None:
        self._outbox.begin_step(self._step_no)
        self._forget()

    def _forget(self) -> None:
        self._reader = StringFieldReader(_ANSWER_FIELD)
        self._answer: list[str] = []
        self._is_answer = False


def _merged(policy: LLMPolicy, client: Mapping[str, Any]) -> dict[str, Any]:
    """The client's parameters before the template's; of two limits of tokens the smaller one holds."""
    own = {"temperature": policy.temperature} if policy.temperature is not None else {}
    merged = {**own, **client}
    if policy.max_completion_tokens is not None:
        name = "max_tokens" if "max_tokens" in client else "max_completion_tokens"
        merged[name] = min(client.get(name, policy.max_completion_tokens), policy.max_completion_tokens)
    return merged
