"""What a reader may hear of a model's reply while it is still being written.

An answer reaches the client at once, although it stands inside of JSON: in the
arguments of a tool call, or in a structured reply. Free text is held back where
only the end of the call tells whether it was the answer or a thought.
"""

from dataclasses import dataclass
from typing import Protocol

from agent_worker.agents.contract import ANSWER, Told
from agent_worker.agents.toolbox import FINAL_ANSWER
from agent_worker.llm.contract import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from agent_worker.llm.next_step import FUNCTION, THOUGHTS
from agent_worker.llm.partial_json import StringFieldReader, StringsReader
from agent_worker.tools.arguments import clean_text

_ANSWERS = frozenset({FINAL_ANSWER, ANSWER})
_ANSWER_FIELD = "answer"


@dataclass(frozen=True, slots=True)
class Heard:
    """What goes on to readers."""

    content: str = ""
    reasoning: str = ""


class Ear(Protocol):
    """Takes the deltas of one reply in order."""

    @property
    def told(self) -> Told:
        """What of an answer has been passed on so far."""
        ...

    def hear(self, delta: Delta) -> Heard:
        """Say what of a delta is for readers."""
        ...


class CallEar:
    """Takes the answer out of the first tool call, when that call is one that answers."""

    def __init__(self) -> None:
        self._reader = StringFieldReader(_ANSWER_FIELD)
        self._text: list[str] = []
        self._tool = ""

    @property
    def told(self) -> Told:
        """What of an answer has been passed on so far."""
        return Told("".join(self._text), self._reader.done and bool(self._text), self._tool or FINAL_ANSWER)

    def hear(self, delta: Delta) -> Heard:
        """Pass on the answer and the provider's own reasoning."""
        match delta:
            case ReasoningDelta():
                return Heard(reasoning=clean_text(delta.text))
            case ToolCallDelta(index=0):
                if delta.name is not None:
                    self._tool = delta.name if delta.name in _ANSWERS else ""
                if self._tool and (text := clean_text(self._reader.feed(delta.arguments))):
                    self._text.append(text)
                    return Heard(content=text)
        return Heard()


class StepEar:
    """Takes the thoughts and the answer out of a structured reply; `tag` names the tool in it."""

    def __init__(self, tag: str) -> None:
        self._tag = (FUNCTION, tag)
        self._reader = StringsReader(*THOUGHTS, self._tag, (FUNCTION, _ANSWER_FIELD))
        self._name: list[str] = []
        self._tool = ""
        self._text: list[str] = []
        self._is_whole = False
        self._thinks_again = False

    @property
    def told(self) -> Told:
        """What of an answer has been passed on so far."""
        return Told("".join(self._text), self._is_whole and bool(self._text), self._tool or FINAL_ANSWER)

    def hear(self, delta: Delta) -> Heard:
        """Pass on the thoughts and the answer."""
        if isinstance(delta, ReasoningDelta):
            return Heard(reasoning=clean_text(delta.text))
        if not isinstance(delta, TextDelta):
            return Heard()
        content: list[str] = []
        thoughts: list[str] = []
        for piece in self._reader.feed(delta.text):
            text = clean_text(piece.text)
            if piece.path in THOUGHTS:
                thoughts += ["\n" if self._thinks_again else "", text]
                self._thinks_again = piece.ends
            elif piece.path == self._tag:
                self._name.append(text)
                if piece.ends and (name := "".join(self._name)) in _ANSWERS:
                    self._tool = name
            elif self._tool:
                content.append(text)
                self._is_whole = piece.ends
        self._text += content
        return Heard("".join(content), "".join(thoughts))


class OpenEar:
    """Passes on the text as it is: it is the answer."""

    def __init__(self) -> None:
        self._text: list[str] = []

    @property
    def told(self) -> Told:
        """What of an answer has been passed on so far."""
        return Told("".join(self._text), False, FINAL_ANSWER)

    def hear(self, delta: Delta) -> Heard:
        """Pass on everything."""
        match delta:
            case ReasoningDelta():
                return Heard(reasoning=clean_text(delta.text))
            case TextDelta():
                self._text.append(text := clean_text(delta.text))
                return Heard(content=text)
        return Heard()


class DeafEar:
    """Passes on nothing but the provider's own reasoning: the text has to be read as a whole."""

    @property
    def told(self) -> Told:
        """Nothing."""
        return Told("", False, FINAL_ANSWER)

    def hear(self, delta: Delta) -> Heard:
        """Pass on what the provider shows as reasoning."""
        return Heard(reasoning=clean_text(delta.text)) if isinstance(delta, ReasoningDelta) else Heard()
