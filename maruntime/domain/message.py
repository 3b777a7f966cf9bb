"""One entry of a transcript, in strict OpenAI form."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FunctionCall(BaseModel):
    """What a tool call asks for; `arguments` is the JSON text as the model wrote it."""

    model_config = ConfigDict(frozen=True)

    name: str
    arguments: str


class ToolCallRef(BaseModel):
    """A tool call as it stands in an assistant message."""

    model_config = ConfigDict(frozen=True)

    id: str
    type: str = "function"
    function: FunctionCall


class Message(BaseModel):
    """A message of the transcript.

    `content` is text, a list of OpenAI content parts, or null beside tool
    calls. `to_openai()` leaves out what is absent, so that it can be sent to
    any provider as it is.
    """

    model_config = ConfigDict(frozen=True)

    role: Role
    content: str | list[dict[str, Any]] | None = None
    tool_calls: tuple[ToolCallRef, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def to_openai(self) -> dict[str, Any]:
        """The message as OpenAI's wire writes it, without absent fields."""
        wire: dict[str, Any] = {"role": self.role.value, "content": self.content}
        if self.tool_calls:
            wire["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.tool_call_id is not None:
            wire["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            wire["name"] = self.name
        return wire

    @property
    def text(self) -> str:
        """All text of the message, parts joined by a line break."""
        if isinstance(self.content, list):
            return "\n".join(part["text"] for part in self.content if part.get("type") == "text")
        return self.content or ""
