"""What is indexed: the texts of a tool version, cut into passages.

A passage is what has a vector: what the tool is, or one request that it
serves. The vector leg takes a tool for its nearest passage, so that an example
in another language, or a tenth one, waters nothing down; the legs over words
take all passages of a tool together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from maruntime.domain.tool import ToolDescriptor
from orchestrator.retrieval.text import normalised


@dataclass(frozen=True, slots=True)
class ToolDocument:
    """The texts by which a version of a tool can be found."""

    version_id: str
    name: str
    description: str
    aliases: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @classmethod
    def from_descriptor(
        cls, tool: ToolDescriptor, *, aliases: Sequence[str] = (), examples: Sequence[str] = ()
    ) -> "ToolDocument":
        """The document of a descriptor."""
        return cls(tool.version_id, tool.name, tool.description, tuple(aliases), tuple(examples))

    def passages(self) -> list["Passage"]:
        """What the tool is, then each example request that says anything."""
        about = Passage("; ".join((self.name, *self.aliases)), self.description)
        return [about, *(Passage("", text) for text in dict.fromkeys(self.examples) if normalised(text))]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: its heading (name and aliases, may be empty) and its text."""

    heading: str
    text: str

    @property
    def embedded(self) -> str:
        """What an embedding provider is given."""
        return f"{self.heading}: {self.text}" if self.heading and self.text else self.heading or self.text
