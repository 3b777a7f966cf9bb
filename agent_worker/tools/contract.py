"""What a tool of the worker is: a coroutine over validated arguments and what is known of the call."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from maruntime.domain.commit import Artifact

_KEYS = uuid.UUID("6b8a7b0e-5f2c-5c0e-9a55-6d6172756e74")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call of one run.

    `deadline` is a moment of the monotonic clock; `trace` holds the W3C
    headers (`traceparent`, `tracestate`, `baggage`) of the request.
    """

    tenant_id: str
    principal_id: str
    session_id: str
    run_id: str
    step_no: int
    call_idx: int
    idempotency_key: str
    deadline: float
    trace: Mapping[str, str] = field(default_factory=dict)

    def remaining(self, at_most: float) -> float:
        """Seconds until the deadline, never more than `at_most` and never negative."""
        return max(0.0, min(at_most, self.deadline - time.monotonic()))


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back: `text` is what the model reads; artifacts travel in the result's commit."""

    text: str
    error_code: str | None = None
    artifacts: tuple[Artifact, ...] = ()


ToolFunction = Callable[[dict[str, Any], ToolContext], Awaitable[ToolResult]]


def idempotency_key(run_id: str, step_no: int, call_idx: int, arguments: Mapping[str, Any]) -> str:
    """The key of a call: the same on every attempt, whoever makes it, and never the model's own id."""
    said = orjson.dumps([run_id, step_no, call_idx, arguments], option=orjson.OPT_SORT_KEYS)
    return str(uuid.uuid5(_KEYS, said.hex()))
