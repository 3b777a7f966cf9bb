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


class ToolDescriptor(BaseModel):
    """One immutable version of a tool. The `ToolDescriptor` of the roadmap.

    `parameters` is the JSON Schema (an object) of the arguments; `locator`
    tells the executor what to call.
    """

    model_config = ConfigDict(frozen=True)

    version_id: str
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str
    kind: ToolKind
    locator: str = ""
    parameters: dict[str, Any]
    effect_class: EffectClass = EffectClass.AT_MOST_ONCE
    timeout: timedelta = timedelta(seconds=60)

    def to_openai(self) -> dict[str, Any]:
        """The tool as OpenAI's function-calling wire offers it."""
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }
