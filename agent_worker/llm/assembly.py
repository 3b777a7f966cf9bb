"""Put a streamed completion together from its chunks.

The providers' dialects end here: calls without an index, an index that is
shared by several calls, repeated names and ids, arguments as an object,
`reasoning` for `reasoning_content`, usage in a chunk of its own. What does not
have the shape of a chunk is `LLMMalformed`. Does no input or output.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent_worker.llm.contract import (
    Delta,
    LLMReply,
    LLMToolCall,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from agent_worker.llm.errors import LLMMalformed

_MOST_TOKENS = 10**9


@dataclass(slots=True)
class _OpenCall:
    """A tool call that may still grow."""

    position: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self.arguments)


class ReplyAssembly:
    """Takes chunks in order and becomes a reply."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}
        self._finish_reason = ""
        self._usage = Usage()

    @property
    def finished(self) -> bool:
        """Whether the provider said why it stopped."""
        return bool(self._finish_reason)

    def feed(self, chunk: Mapping[str, Any]) -> list[Delta]:
        """Take one chunk; the deltas in it.

        Raises:
            LLMMalformed: it is no chunk of a chat completion.
        """
        try:
            return list(self._feed(chunk))
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise LLMMalformed("The model's stream has a chunk that cannot be read.", reason=repr(exc)) from exc

    def reply(self) -> LLMReply:
        """The whole reply.

        Raises:
            LLMMalformed: the provider never said that it had finished, or left a call without a name.
        """
        if not self._finish_reason:
            raise LLMMalformed("The model's stream ended before the answer did.")
        if any(not call.name for call in self._calls):
            raise LLMMalformed("The model's stream has a tool call without a name.")
        return LLMReply(
            content="".join(self._text),
            tool_calls=tuple(LLMToolCall(call.name, call.text()) for call in self._calls),
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
        )

    def _feed(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        if model := chunk.get("model"):
            self._model = _string(model)
        if usage := chunk.get("usage"):
            self._usage = _usage(usage)
        for choice in chunk.get("choices") or ():
            if choice.get("index"):  # we ask for one choice
                continue
            if delta := choice.get("delta"):
                yield from self._delta(delta)
            if reason := choice.get("finish_reason"):
                self._finish_reason = _string(reason)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            yield ReasoningDelta(_string(reasoning))
        for text in (delta.get("content"), delta.get("refusal")):
            if text:
                self._text.append(_string(text))
                yield TextDelta(text)
        for fragment in delta.get("tool_calls") or ():
            yield from self._tool_call(fragment)

    def _tool_call(self, fragment: Mapping[str, Any]) -> Iterator[Delta]:
        function = fragment.get("function") or {}
        identity = _string(fragment.get("id") or "")
        name = _string(function.get("name") or "")
        arguments = _arguments(function.get("arguments"))
        call = self._call_of(fragment.get("index"), identity, name)
        renamed = bool(name) and name != call.name
        if renamed:
            call.name += name
        call.id = call.id or identity
        if arguments:
            call.arguments.append(arguments)
        if renamed or arguments:
            yield ToolCallDelta(call.position, call.name if renamed else None, arguments)

    def _call_of(self, index: int | None, identity: str, name: str) -> _OpenCall:
        latest = self._calls[-1] if self._calls else None
        call = latest if index is None else self._by_index.get(index)
        if call is None or _starts_another(call, identity, name, indexed=index is not None):
            call = _OpenCall(len(self._calls))
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        return call


def _starts_another(call: _OpenCall, identity: str, name: str, *, indexed: bool) -> bool:
    """Whether a fragment that would go to `call` is in truth the start of the next one.

    A continuation carries neither id nor name, or repeats them. Some providers
    give all calls of a reply one index, or none, or every fragment a new id; so
    an id alone proves nothing while the arguments are unfinished.
    """
    if not name or (identity and identity == call.id):
        return False
    if indexed and (not identity or not call.id):
        return False
    return bool(call.name) and (name != call.name or _is_json(call.text()))


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _arguments(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {type(value).__name__}")
    return value


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
    )


def _count(value: Any) -> int:
    """A number of tokens; what no call can have taken is a provider's mistake and not ours to store."""
    return min(max(int(value or 0), 0), _MOST_TOKENS)
