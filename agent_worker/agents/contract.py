"""What makes one kind of agent different from another: how it thinks within a step.

The loop is the same for all (`loop.py`). A kind answers two questions: what does
the agent make of the situation (`reason`), and what does it do next
(`select_action`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent_worker.llm.contract import LLMReply, LLMToolCall
from maruntime.domain.message import Message
from maruntime.domain.run import Usage
from maruntime.domain.tool import ToolDescriptor


@dataclass(frozen=True, slots=True)
class Prompt:
    """One step's situation: the messages, and the tools that may be used."""

    messages: tuple[dict[str, Any], ...]
    tools: tuple[ToolDescriptor, ...]

    def followed_by(self, messages: tuple[Message, ...]) -> "Prompt":
        """The prompt with more said."""
        return Prompt((*self.messages, *(message.to_openai() for message in messages)), self.tools)

    def with_tools(self, tools: tuple[ToolDescriptor, ...]) -> "Prompt":
        """The prompt with other tools."""
        return Prompt(self.messages, tools)


@dataclass(frozen=True, slots=True)
class Reasoned:
    """The outcome of the reasoning phase: what is told, kept and paid for."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    calls: tuple["MadeCall", ...] = ()
    usage: Usage = field(default_factory=Usage)
    complaint: str | None = None
    """Why the model's reasoning cannot be used; the step ends here when set."""


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A system call that is finished as soon as it is made."""

    tool: ToolDescriptor
    call_id: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of the selection phase."""

    text: str
    calls: tuple[LLMToolCall, ...]
    finish_reason: str
    usage: Usage
    answer: str = ""
    """What of a final answer could be read, even if the model was cut off."""
    answer_is_whole: bool = False
    """Whether that text came to its end, whatever was wrong around it."""


class Mind(Protocol):
    """How the loop reaches the model: one call, its deltas already on their way."""

    async def ask(self, prompt: Prompt, *, tool_choice: str | None) -> LLMReply:
        """Make one LLM call with the template's policy.

        Raises:
            LLMError: it did not work, retries included.
        """
        ...

    @property
    def answer(self) -> str:
        """What of a final answer the latest call has given so far."""
        ...

    @property
    def answer_is_whole(self) -> bool:
        """Whether that text came to its end."""
        ...


class Agent(Protocol):
    """One kind of agent. Holds nothing between steps: a run may continue anywhere."""

    async def reason(self, prompt: Prompt, mind: Mind) -> Reasoned:
        """Say what the agent makes of the situation; nothing when the kind does not reason apart."""
        ...

    async def select_action(self, prompt: Prompt, mind: Mind) -> Decision:
        """Choose what to do next."""
        ...


AgentFactory = Callable[[], Agent]
