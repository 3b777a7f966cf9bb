"""What a tool is: the contract of the catalog and of what the LLM is offered."""

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EffectClass(StrEnum):
    """What may happen to a call that was started and whose result is not known."""

    PURE = "pure"
    KEYED = "keyed"
    AT_MOST_ONCE = "at_most_once"


class ToolKind(StrEnum):
    """Who executes the tool."""

    SYSTEM = "system"
    """The loop itself: reasoning, clarification, final answer."""
    SHIPPED = "shipped"
    """A function of the worker, named by `locator`."""
    PYTHON = "python"
    """An installed entrypoint `package.module:function`, run in the worker's tool host."""
    REMOTE = "remote"
    """An HTTP endpoint, described by `remote`."""


class RiskLevel(StrEnum):
    """How much harm a call can do."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ToolDescriptor(BaseModel):
    """One immutable version of a tool. The `ToolDescriptor` of the roadmap.

    `parameters` is the JSON Schema (an object) of the arguments; `locator` or
    `remote` tells the executor what to call. `aliases` and `examples` (requests,
    in any language) are what the search finds the tool by.
    """

    model_config = ConfigDict(frozen=True)

    version_id: str
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str
    kind: ToolKind
    version: int = 1
    locator: str = ""
    remote: dict[str, Any] | None = None
    parameters: dict[str, Any]
    effect_class: EffectClass = EffectClass.AT_MOST_ONCE
    risk_level: RiskLevel = RiskLevel.MEDIUM
    timeout: timedelta = timedelta(seconds=60)
    output_limit: int = Field(default=256 * 1024, gt=0, le=4 * 1024 * 1024)
    """Characters of the result that the model reads."""
    cost_hint: str | None = None
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    def to_openai(self) -> dict[str, Any]:
        """The tool as OpenAI's function-calling wire offers it."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }
