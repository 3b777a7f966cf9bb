"""Write the bodies of a chat completion, whole or chunk by chunk, as bytes.

A chunk of text is made for every token, so all of it but the text is encoded
once. What the platform adds to OpenAI's form is `delta.reasoning_content` (in a
whole body `message.reasoning_content`) and `x_maruntime` beside `choices`.
Knows nothing of SSE frames: see `sse`.
"""

from typing import Any

import orjson

from maruntime.domain.run import Usage
from orchestrator.exception_handlers import error_body

_GAP = ""  # stands where the text goes; no string follows it in a chunk


class CompletionWriter:
    """Writes the answer to one turn; the id, the model and the time are the same in all it writes."""

    def __init__(self, turn_id: str, model: str, created: int, *, include_usage: bool = False) -> None:
        self._common: dict[str, Any] = {"id": f"chatcmpl-{turn_id}", "created": created, "model": model}
        self._pending: dict[str, Any] = {"usage": None} if include_usage else {}
        self._before_content, self._after_content = self._around("content")
        self._before_reasoning, self._after_reasoning = self._around("reasoning_content")

    def role_chunk(self) -> bytes:
        """The first chunk: who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def content_chunk(self, text: str) -> bytes:
        """A piece of the answer."""
        return self._before_content + orjson.dumps(text) + self._after_content

    def reasoning_chunk(self, text: str) -> bytes:
        """A piece of the reasoning."""
        return self._before_reasoning + orjson.dumps(text) + self._after_reasoning

    def event_chunk(self, x_maruntime: dict[str, Any]) -> bytes:
        """Something that happened on the server's side; an OpenAI client sees an empty delta."""
        return self._chunk({}, x_maruntime=x_maruntime)

    def finish_chunk(self, finish_reason: str, x_maruntime: dict[str, Any] | None = None) -> bytes:
        """The end of the choice."""
        return self._chunk({}, finish_reason, x_maruntime)

    def usage_chunk(self, usage: Usage) -> bytes:
        """The last chunk, when the client asked for it."""
        return orjson.dumps(
            {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": usage_body(usage)}
        )

    def whole(
        self,
        content: str,
        reasoning: str | None,
        finish_reason: str,
        usage: Usage,
        x_maruntime: dict[str, Any] | None = None,
    ) -> bytes:
        """The whole answer in one body."""
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if reasoning is not None:
            message["reasoning_content"] = reasoning
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        body = {**self._common, "object": "chat.completion", "choices": [choice], "usage": usage_body(usage)}
        if x_maruntime is not None:
            body["x_maruntime"] = x_maruntime
        return orjson.dumps(body)

    def _around(self, name: str) -> tuple[bytes, bytes]:
        before, _, after = self._chunk({name: _GAP}).rpartition(orjson.dumps(_GAP))
        return before, after

    def _chunk(
        self, delta: dict[str, str], finish_reason: str | None = None, x_maruntime: dict[str, Any] | None = None
    ) -> bytes:
        chunk = {
            **self._common,
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
            **self._pending,
        }
        if x_maruntime is not None:
            chunk["x_maruntime"] = x_maruntime
        return orjson.dumps(chunk)


def usage_body(usage: Usage) -> dict[str, Any]:
    """The tokens of a turn as OpenAI counts them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def error_event(exc: Exception) -> bytes:
    """The last event of a stream that failed; `data: [DONE]` does not follow it."""
    return orjson.dumps(error_body(exc))
