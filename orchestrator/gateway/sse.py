"""Frames of a server-sent event stream.

No named events: clients of the OpenAI wire stop or lose text at one.
"""

from collections.abc import Mapping

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEADERS: Mapping[str, str] = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
COMMENT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def encode(event_id: str | None, data: bytes) -> bytes:
    """Frame one event; `data` is JSON on one line, as orjson writes it."""
    if event_id is None:
        return b"data: %b\n\n" % data
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), data)
