"""What a client gets of a turn, in order: the answer's text once, however it came.

Text comes twice: as deltas while the model writes, and whole with the event that
ends the turn. The whole is the truth; what was already sent is a prefix of it,
or the stream ends with an error that names the run. After a takeover the new
owner writes the step again: as long as its text repeats what was sent, nothing
is sent twice.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from maruntime.domain.event import EventType, RunEvent, TextDelta
from maruntime.domain.run import Usage
from maruntime.errors import MaruntimeError, RunCancelled, RunDead, RunExpired, RunFailed
from orchestrator.dispatch.event_bus import Reader


@dataclass(frozen=True, slots=True)
class Content:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the agent thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class Happened:
    """A durable event, for clients that ask for them."""

    event: RunEvent


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing happened for a while."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The turn ended well: an answer, or a question to the user."""

    finish_reason: str
    usage: Usage
    state: str
    status: str | None
    waiting_for: str | None


Part = Content | Reasoning | Happened | Silence | Finished


class TextDiverged(MaruntimeError):
    """The text that was sent is not the text that was kept; read the run by its id."""

    code = "stream_diverged"


class TurnStream:
    """The parts of one turn; `place` is the SSE id of the last one.

    Without `live`, text comes with the event that ends the turn only, so that
    nothing has to be taken back.
    """

    def __init__(self, reader: Reader, *, idle: float, live: bool) -> None:
        self._live = live
        self._reader = reader
        self._idle = idle
        self._sent = ""
        self._step: tuple[int, int] | None = None
        self._step_text = ""
        self._reasoned_steps: set[tuple[int, int]] = set()
        self._told_steps: set[tuple[int, int]] = set()
        self._epoch = 0

    @property
    def place(self) -> str:
        """`{epoch}.{seq}.{offset}`: where a reader would go on from."""
        return f"{self._epoch}.{self._reader.seen}.{len(self._sent)}"

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the parts; the last one is `Finished`.

        Raises:
            RunFailed, RunCancelled, RunExpired, RunDead: how the run ended.
            TextDiverged: what was sent cannot be completed.
            ReplicaStopping: this replica is going away.
        """
        async for word in self._reader.words(self._idle):
            match word:
                case None:
                    yield Silence()
                case TextDelta():
                    for part in self._on_delta(word):
                        yield part
                case RunEvent():
                    for part in self._on_event(word):
                        yield part
                    if word.type.ends_turn:
                        return

    def _on_delta(self, delta: TextDelta) -> list[Part]:
        step = (delta.epoch, delta.step_no)
        if step != self._step or (delta.content and delta.offset == 0):
            self._step, self._step_text = step, ""  # another step, or the model was asked again
        self._epoch = delta.epoch
        parts: list[Part] = []
        if delta.reasoning and step not in self._told_steps:
            self._reasoned_steps.add(step)
            parts.append(Reasoning(delta.reasoning))
        if self._live and delta.content and delta.offset == len(self._step_text):
            self._step_text += delta.content
            if len(self._step_text) > len(self._sent) and self._step_text.startswith(self._sent):
                parts.append(Content(self._step_text[len(self._sent) :]))
                self._sent = self._step_text
        return parts

    def _on_event(self, event: RunEvent) -> list[Part]:
        self._epoch = event.epoch
        said = event.payload
        match event.type:
            case EventType.STEP_REASONED:
                parts: list[Part] = [Happened(event)]
                step = (event.epoch, said["step"])
                self._told_steps.add(step)  # a slow reader finds the event before the deltas in its queue
                if said.get("text") and step not in self._reasoned_steps:
                    parts.append(Reasoning(said["text"]))
                return parts
            case EventType.RUN_COMPLETED | EventType.RUN_WAITING:
                return [Happened(event), *self._rest_of(said["text"], event), self._finished(event)]
            case EventType.RUN_FAILED:
                raise RunFailed(said["message"], reason=said["code"], run_id=event.run_id)
            case EventType.RUN_CANCELLED:
                raise RunCancelled(run_id=event.run_id)
            case EventType.RUN_EXPIRED:
                raise RunExpired(run_id=event.run_id)
            case EventType.RUN_DEAD:
                raise RunDead(run_id=event.run_id)
            case _:
                return [Happened(event)]

    def _rest_of(self, whole: str, event: RunEvent) -> list[Part]:
        if not whole.startswith(self._sent):
            raise TextDiverged(run_id=event.run_id)
        rest, self._sent = whole[len(self._sent) :], whole
        return [Content(rest)] if rest else []

    def _finished(self, event: RunEvent) -> Finished:
        return Finished(
            finish_reason=event.payload.get("finish_reason", "stop"),
            usage=usage_of(event.payload),
            state="WAITING" if event.type is EventType.RUN_WAITING else "COMPLETED",
            status=event.payload.get("status"),
            waiting_for=event.payload.get("waiting_for"),
        )


def usage_of(payload: dict[str, Any]) -> Usage:
    """The tokens of the turn, as the journal adds them to the event that ends it."""
    return Usage(**payload.get("usage", {}))
