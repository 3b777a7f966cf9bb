"""Reach the model for one run: the template's policy and fallbacks, the client's parameters, the run's trace.

What readers hear of a reply while it is being written is decided by an ear
(`hearing.py`), which is new with each call and with each restart of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from agent_worker.agents.contract import Prompt, Told
from agent_worker.agents.hearing import CallEar, DeafEar, Ear, OpenEar, StepEar
from agent_worker.llm.contract import LLM, Delta, LLMReply, LLMRequest
from agent_worker.llm.errors import LLMError, LLMRefused, UnknownEndpoint
from agent_worker.llm.next_step import NextStep
from agent_worker.outbox import Outbox
from maruntime.domain.template import LLMFallback, LLMPolicy

log = structlog.get_logger()


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
        self._targets = (LLMFallback(endpoint=policy.endpoint, model=policy.model), *policy.fallbacks)
        self._parameters = _merged(policy, client_parameters)
        self._headers = headers
        self._outbox = outbox
        self._new_ear: Callable[[], Ear] = CallEar
        self._ear: Ear = CallEar()
        self._calls_made = 0

    @property
    def told(self) -> Told:
        """What of an answer the latest call has given to readers so far."""
        return self._ear.told

    @property
    def calls_made(self) -> int:
        """How often the model was asked in this step; what retries and fallbacks took is not counted."""
        return self._calls_made

    def begin_step(self, step_no: int) -> None:
        """What is said from here on belongs to this step."""
        self._step_no = step_no
        self._calls_made = 0
        self._outbox.begin_step(step_no)
        self._listen(CallEar)

    async def ask(self, prompt: Prompt, *, tool_choice: str | None) -> LLMReply:
        """Make one LLM call, offering the prompt's tools; see `Mind.ask`."""
        request = self._request(prompt)
        tools = tuple(tool.to_openai() for tool in prompt.tools)
        return await self._complete(replace(request, tools=tools, tool_choice=tool_choice), CallEar)

    async def ask_step(self, prompt: Prompt, form: NextStep) -> LLMReply:
        """Make one LLM call whose text fills in a form."""
        request = replace(self._request(prompt), response_format=form.response_format())
        return await self._complete(request, lambda: StepEar(form.tag))

    async def ask_text(self, prompt: Prompt, *, aloud: bool) -> LLMReply:
        """Make one LLM call without tools."""
        return await self._complete(self._request(prompt), OpenEar if aloud else DeafEar)

    def _request(self, prompt: Prompt) -> LLMRequest:
        return LLMRequest(
            endpoint=self._targets[0].endpoint,
            model=self._targets[0].model,
            messages=prompt.messages,
            parameters=self._parameters,
            headers=self._headers,
        )

    async def _complete(self, request: LLMRequest, new_ear: Callable[[], Ear]) -> LLMReply:
        """Ask the policy's endpoint, then its fallbacks in order.

        Raises:
            LLMError: the last endpoint's; or a refusal, which another endpoint would repeat.
        """
        self._calls_made += 1
        self._listen(new_ear)
        failure: LLMError | None = None
        for target in self._targets:
            if failure is not None:
                self._on_restart()
            try:
                return await self._try(request, target)
            except LLMRefused:
                raise
            except LLMError as error:
                log.warning("llm_endpoint_failed", endpoint=target.endpoint, code=error.code, reason=error.reason)
                if failure is None or not isinstance(error, UnknownEndpoint):
                    failure = error
        assert failure is not None
        raise failure

    async def _try(self, request: LLMRequest, target: LLMFallback) -> LLMReply:
        asked = replace(request, endpoint=target.endpoint, model=target.model)
        return await self._llm.complete(asked, self._on_delta, on_restart=self._on_restart)

    def _on_delta(self, delta: Delta) -> None:
        heard = self._ear.hear(delta)
        if heard.content or heard.reasoning:
            self._outbox.say(content=heard.content, reasoning=heard.reasoning)

    def _on_restart(self) -> None:
        self._outbox.begin_step(self._step_no)
        self._listen(self._new_ear)

    def _listen(self, new_ear: Callable[[], Ear]) -> None:
        self._new_ear = new_ear
        self._ear = new_ear()


def _merged(policy: LLMPolicy, client: Mapping[str, Any]) -> dict[str, Any]:
    """The client's parameters before the template's; of two limits of tokens the smaller one holds."""
    own = {"temperature": policy.temperature} if policy.temperature is not None else {}
    merged = {**own, **client}
    if policy.max_completion_tokens is not None:
        name = "max_tokens" if "max_tokens" in client else "max_completion_tokens"
        merged[name] = min(client.get(name, policy.max_completion_tokens), policy.max_completion_tokens)
    return merged
