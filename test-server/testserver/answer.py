"""What came back from the stack, in one form for whole, streamed and refused answers."""

import re
from dataclasses import dataclass, field
from typing import Any

from testserver.pointer import PointerMissing, resolve

SESSION_ID = re.compile(r"^sess_[A-Za-z0-9]{26}$")


@dataclass(frozen=True)
class Answer:
    """One answer of the stack.

    `body` is the JSON that came; for a stream it is put together:
    `{id, model, choices: [{message, finish_reason}], usage, x_maruntime, chunks: [...]}`.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw_text: str = ""
    chunks: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    duration_ms: int = 0
    wire_faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Tell whether the stack refused, broke off, or was not there."""
        return self.error is not None or self.status is None or self.status >= 400

    @property
    def text(self) -> str:
        """The content of the completion, or the raw body of another route."""
        content = self.get("/choices/0/message/content")
        return content if isinstance(content, str) else self.raw_text

    @property
    def deltas(self) -> int:
        """How many chunks carried content."""
        return sum(bool(text) for text in map(content_of, self.chunks or []))

    @property
    def finish_reason(self) -> str | None:
        """Why the completion ended."""
        return self.get("/choices/0/finish_reason")

    @property
    def model(self) -> str | None:
        """The model that the completion names: the session's id."""
        return self.get("/model")

    @property
    def session_id(self) -> str | None:
        """The session, as the header tells it."""
        return self.headers.get("x-session-id")

    @property
    def run_id(self) -> str | None:
        """The run, as the header or the body's extension tells it."""
        return self.headers.get("x-run-id") or self.get("/x_maruntime/run_id")

    def get(self, pointer: str) -> Any:
        """What stands in the body at this place, None if nothing does."""
        try:
            return resolve(self.body, pointer)
        except PointerMissing:
            return None

    def source(self, name: str) -> Any:
        """What a `save` names: a pointer into the body, a header, or a property."""
        if name.startswith("/"):
            return self.get(name)
        if name.startswith("header:"):
            return self.headers.get(name.removeprefix("header:").lower())
        return getattr(self, name)


def content_of(chunk: dict[str, Any]) -> str:
    """The text that a chunk adds to the answer."""
    return "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", []))


def assemble(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """One body out of the chunks of a stream."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    deltas = [choice.get("delta", {}) for choice in choices]
    message = {"role": "assistant", "content": "".join(map(content_of, chunks))}
    if reasoning := "".join(delta.get("reasoning_content") or "" for delta in deltas):
        message["reasoning_content"] = reasoning
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    body: dict[str, Any] = {"choices": [{"index": 0, "message": message, "finish_reason": (reasons or [None])[-1]}]}
    if calls:
        body["choices"][0]["message"]["tool_calls"] = _joined(calls)
    for key in ("id", "model", "created", "usage", "x_maruntime"):
        values = [chunk[key] for chunk in chunks if chunk.get(key) is not None]
        if values:
            body[key] = values[-1]
    return {**body, "chunks": chunks}


def faults_of_stream(chunks: list[dict[str, Any]]) -> list[str]:
    """What no stream of completions may do, whatever the case expects."""
    if not chunks:
        return ["a stream without a chunk"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    faults = []
    for key in ("id", "model"):
        if len(values := {chunk.get(key) for chunk in chunks}) > 1:
            faults.append(f"the chunks do not agree on {key}: {sorted(map(str, values))}")
    if len(reasons) != 1:
        faults.append(f"exactly one finish_reason is needed, not {reasons}")
    if choices and choices[0].get("delta", {}).get("role") != "assistant":
        faults.append("the first delta has no role")
    if any(choice.get("index") != 0 for choice in choices):
        faults.append("a choice other than 0")
    return faults


def _joined(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: dict[int, dict[str, Any]] = {}
    for call in calls:
        whole = joined.setdefault(call["index"], {"id": None, "type": "function", "function": {"arguments": ""}})
        function = call.get("function") or {}
        whole["id"] = call.get("id") or whole["id"]
        if function.get("name"):
            whole["function"]["name"] = function["name"]
        whole["function"]["arguments"] += function.get("arguments") or ""
    return [joined[index] for index in sorted(joined)]
