"""Put a reply of the scripted LLM on the OpenAI wire, whole or in chunks.

Knows nothing of cases: a reply is text or tool calls, a pace and a usage.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson

from testserver.llm_request import LLMRequest


@dataclass(frozen=True)
class CalledTool:
    """One tool call, its arguments as the text that goes out."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid4().hex[:24]}")


@dataclass(frozen=True)
class LLMReply:
    """What the LLM says: text, or calls of tools."""

    content: str | None = None
    tool_calls: tuple[CalledTool, ...] = ()
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    chunk: int = 8
    delay_s: float = 0.0
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def ends_with(self) -> str:
        """The finish reason: the scripted one, else the one that fits."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


class LLMRefusal(Exception):
    """The LLM answers with an HTTP error."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.headers = headers or {}

    @classmethod
    def saying(cls, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> "LLMRefusal":
        """A refusal in OpenAI's own form."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        return cls(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)


def whole(reply: LLMReply, request: LLMRequest) -> dict[str, Any]:
    """The reply as one body."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.content, "refusal": None}
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.ends_with}
    return {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": request.model,
        "choices": [choice],
        "usage": _usage(reply, request),
    }


async def events(reply: LLMReply, request: LLMRequest) -> AsyncIterator[bytes]:
    """The reply as server-sent events, at its own pace."""
    for chunk in chunks(reply, request):
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
    yield b"data: [DONE]\n\n"


def chunks(reply: LLMReply, request: LLMRequest) -> Iterator[dict[str, Any]]:
    """The reply as the chunks of a stream."""
    frame = {
        "id": reply.id,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": request.model,
        **({"usage": None} if request.wants_usage else {}),
    }
    for delta in _deltas(reply):
        yield {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.ends_with}]}
    if request.wants_usage:
        yield {**frame, "choices": [], "usage": _usage(reply, request)}


def _deltas(reply: LLMReply) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None if reply.tool_calls else ""}
    for piece in _pieces(reply.content or "", reply.chunk):
        yield {"content": piece}
    for index, call in enumerate(reply.tool_calls):
        function = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
        for piece in _pieces(call.arguments, reply.chunk):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def _usage(reply: LLMReply, request: LLMRequest) -> dict[str, int]:
    said = (reply.content or "") + "".join(call.arguments for call in reply.tool_calls)
    prompt = _tokens(request.all_text) if reply.prompt_tokens is None else reply.prompt_tokens
    completion = _tokens(said) if reply.completion_tokens is None else reply.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)
