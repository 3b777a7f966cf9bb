"""What the agent loop asks of a language model, and what it gets back.

One call is one streamed completion: deltas go to a sink while they arrive, the
whole reply is returned at the end. Promises nothing about providers: their
dialects end in `agent_worker.llm.assembly`, their failures in
`agent_worker.llm.errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from maruntime.domain.run import Usage


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """One completion to be made; everything in it is already in OpenAI's form.

    `model` is the endpoint's default when absent. `parameters` are sampling
    parameters under OpenAI's names and are passed through; what has a field of
    its own here, and the streaming flags, cannot be overridden by them.
    """

    endpoint: str
    messages: Sequence[Mapping[str, Any]]
    model: str | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks aloud, where the provider shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of one tool call.

    `index` is the place in `LLMReply.tool_calls`. `name` is the whole name known
    so far, given when it became known or longer, else None.
    """

    index: int
    name: str | None
    arguments: str


Delta = TextDelta | ReasoningDelta | ToolCallDelta

DeltaSink = Callable[[Delta], None]


@dataclass(frozen=True, slots=True)
class LLMToolCall:
    """What the model asked for; `arguments` is the text it wrote, which need not be JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class LLMReply:
    """A whole completion. `finish_reason` is the provider's own word."""

    content: str
    tool_calls: tuple[LLMToolCall, ...]
    finish_reason: str
    usage: Usage
    model: str


class LLM(Protocol):
    """What completes."""

    async def complete(self, request: LLMRequest, on_delta: DeltaSink, *, on_restart: Callable[[], None]) -> LLMReply:
        """Make one completion, handing over deltas as they come.

        `on_restart` is called when the call is about to be tried again although
        deltas had gone out: all of them since the last restart are void.

        Raises:
            UnknownEndpoint: no such endpoint is configured.
            LLMRefused: the provider does not want this request; the same again will not help.
            LLMUnavailable, LLMRateLimited, LLMMalformed, LLMTimeout: it did not
                work, the endpoint's retries included.
        """
        ...
