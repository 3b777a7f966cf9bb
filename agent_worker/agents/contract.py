"""What makes one kind of agent different from another: how it thinks within a step.

The loop is the same for all (`loop.py`). A kind answers two questions: what does
the agent make of the situation (`reason`), and what does it do next
(`select_action`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent_worker.llm.contract import LLMReply, LLMToolCall
from agent_worker.llm.next_step import NextStep
from maruntime.domain.message import Message
from maruntime.domain.run import Usage
from maruntime.domain.tool import ToolDescriptor

ANSWER = "answer"
"""The system tool that hands the turn back to the user while the run goes on."""


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
    answer_tool: str = "final_answer"
    """The tool that the answer was written for."""
    thought: str = ""
    """The reasoning that came with the action; readers have it already."""
    complaint: str | None = None
    """Why the reply cannot be used."""
    verbatim: bool = False
    """The text is the answer as it stands, and readers have it already."""


@dataclass(frozen=True, slots=True)
class Told:
    """What of an answer readers have while the reply is not read yet."""

    text: str
    is_whole: bool
    """Whether the text came to its end."""
    tool: str
    """The tool that the answer is written for."""


class Mind(Protocol):
    """How the loop reaches the model: one call, its deltas already on their way."""

    async def ask(self, prompt: Prompt, *, tool_choice: str | None) -> LLMReply:
        """Make one LLM call with the template's policy, offering the prompt's tools.

        Raises:
            LLMError: it did not work, retries and fallbacks included.
        """
        ...

    async def ask_step(self, prompt: Prompt, form: NextStep) -> LLMReply:
        """Make one LLM call whose text fills in a form; the tools are in the form."""
        ...

    async def ask_text(self, prompt: Prompt, *, aloud: bool) -> LLMReply:
        """Make one LLM call without tools; `aloud`, the text goes to readers as it comes."""
        ...

    @property
    def told(self) -> Told:
        """What of an answer the latest call has given to readers so far."""
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


def decided(reply: LLMReply, told: Told) -> Decision:
    """The decision that a reply with tool calls stands for."""
    return Decision(
        reply.content, reply.tool_calls, reply.finish_reason, reply.usage, told.text, told.is_whole, told.tool
    )
