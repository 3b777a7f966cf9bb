"""What a tool of the worker is: a coroutine over validated arguments."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from maruntime.domain.commit import Artifact


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back: `text` is what the model reads; artifacts travel in the result's commit."""

    text: str
    error_code: str | None = None
    artifacts: tuple[Artifact, ...] = ()


ToolFunction = Callable[[dict[str, Any]], Awaitable[ToolResult]]
