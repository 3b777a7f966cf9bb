"""The answer's text once, however it came (durability.md §5)."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maruntime.domain.event import EventType, RunEvent, TextDelta
from maruntime.domain.run import RunRef, Usage
from maruntime.errors import MaruntimeError, ReplicaStopping
from maruntime.testing.builders import a_delta, a_run_event
from orchestrator.dispatch.event_bus import Reader
from orchestrator.gateway.turn_stream import (
    Content,
    Finished,
    Happened,
    Part,
    Reasoning,
    Silence,
    TextDiverged,
    TurnStream,
)

RUN = RunRef("run_1", 1)
NEXT = RunRef("run_1", 3)
TEXT = "Hello, wörld 😀!"


def completed(text: str, seq: int = 1, *, run: RunRef = RUN, **more: Any) -> RunEvent:
    return a_run_event(seq, EventType.RUN_COMPLETED, run=run, text=text, **more)


class NoStore:
    """Readers here miss nothing, so nobody may ask."""

    async def events_after(self, run_id: str, seq: int) -> tuple[RunEvent, ...]:
        raise AssertionError("no word was lost")


def parts_of(*words: RunEvent | TextDelta, got: list[Part] | None = None, live: bool = True) -> list[Part]:
    """What the words become; `got` keeps the parts that came before an error."""
    parts = [] if got is None else got

    async def read() -> None:
        reader = Reader(RUN.run_id, 0, NoStore())
        for word in words:
            reader.tell(word)
        async with asyncio.timeout(5):
            async for part in TurnStream(reader, idle=5, live=live).parts():
                parts.append(part)

    asyncio.run(read())
    return parts


def content(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Content))


def reasoning(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Reasoning))


def slices(text: str, *sizes: int, run: RunRef = RUN, step_no: int = 1) -> list[TextDelta]:
    deltas, offset = [], 0
    for size in (*sizes, len(text)):
        if offset < len(text):
            piece = text[offset : offset + size]
            deltas.append(a_delta(run, piece, offset=offset, step_no=step_no))
            offset += len(piece)
    return deltas


def test_deltas_are_passed_on_as_they_come_and_nothing_is_said_again_at_the_end() -> None:
    parts = parts_of(*slices(TEXT, 3, 4), completed(TEXT, finish_reason="stop"))

    assert [part.text for part in parts if isinstance(part, Content)] == ["Hel", "lo, ", TEXT[7:]]


def test_what_is_answered_whole_takes_its_text_from_the_end_only() -> None:
    parts = parts_of(a_delta(RUN, "Hullo", reasoning="hm"), completed("Hello"), live=False)

    assert [part.text for part in parts if isinstance(part, Content)] == ["Hello"]
    assert reasoning(parts) == "hm"


def test_text_without_deltas_comes_whole_with_the_end() -> None:
    parts = parts_of(completed(TEXT))

    assert content(parts) == TEXT


def test_the_end_says_reason_usage_and_state() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1}

    parts = parts_of(completed("x", finish_reason="length", usage=usage))

    assert parts[-1] == Finished("length", Usage(3, 2, 1), "COMPLETED", None, None)


def test_a_question_ends_the_turn_too() -> None:
    asked = a_run_event(1, EventType.RUN_WAITING, run=RUN, text="Which?", waiting_for="clarification")

    parts = parts_of(asked)

    assert parts == [Happened(asked), Content("Which?"), Finished("stop", Usage(), "WAITING", None, "clarification")]


def test_an_empty_answer_has_no_content_part() -> None:
    assert content(parts_of(completed(""))) == ""
    assert not any(isinstance(part, Content) for part in parts_of(completed("")))


@st.composite
def attempts(draw: st.DrawFn) -> tuple[str, list[TextDelta]]:
    """A text, and the deltas of some attempts to write it, cut and lost at random, each attempt after the other."""
    text = draw(st.text(st.sampled_from("abя😀 "), max_size=12))
    words: list[TextDelta] = []
    for number in range(draw(st.integers(1, 3))):
        run = RunRef(RUN.run_id, 1 + 2 * number) if draw(st.booleans()) else RUN
        sizes = draw(st.lists(st.integers(1, 4), max_size=12))
        whole = slices(text, *sizes, run=run)
        written = whole[: draw(st.integers(0, len(whole)))]  # the owner may die in the middle
        words += [delta for delta in written if draw(st.integers(0, 4)) > 0]  # and frames may be lost
    return text, words


@settings(max_examples=400, deadline=None, derandomize=True)
@given(attempts())
def test_content_comes_exactly_once_whatever_was_lost_cut_or_written_again(story: tuple[str, list[TextDelta]]) -> None:
    text, words = story

    assert content(parts_of(*words, completed(text))) == text


def test_a_takeover_that_repeats_the_text_goes_on_where_it_stopped() -> None:
    first = slices(TEXT, 5)[:1]
    requeued = a_run_event(1, EventType.RUN_REQUEUED, run=RunRef("run_1", 2))
    second = slices(TEXT, 2, 2, 2, run=NEXT)

    parts = parts_of(*first, requeued, *second, completed(TEXT, 2, run=NEXT))

    said = [part.text for part in parts if isinstance(part, Content)]
    assert said[:2] == [TEXT[:5], TEXT[5:6]]
    assert "".join(said) == TEXT


def test_a_model_that_is_asked_again_starts_from_the_first_character() -> None:
    parts = parts_of(*slices(TEXT, 5)[:1], *slices(TEXT, 8), completed(TEXT))

    said = [part.text for part in parts if isinstance(part, Content)]
    assert said == [TEXT[:5], TEXT[5:8], TEXT[8:]]


def test_text_that_was_sent_and_not_kept_is_an_error_that_names_the_run() -> None:
    got: list[Part] = []

    with pytest.raises(TextDiverged) as refused:
        parts_of(a_delta(RUN, "Hullo"), completed("Hello"), got=got)

    assert content(got) == "Hullo"
    assert refused.value.details == {"run_id": "run_1"}


def test_text_of_a_takeover_that_diverges_is_not_sent() -> None:
    got: list[Part] = []

    with pytest.raises(TextDiverged):
        parts_of(a_delta(RUN, "abc"), a_delta(NEXT, "abX and more"), completed("abX and more", run=NEXT), got=got)

    assert content(got) == "abc"


def test_reasoning_that_was_streamed_is_not_told_again_with_its_event() -> None:
    parts = parts_of(
        a_delta(RUN, reasoning="Let me "),
        a_delta(RUN, reasoning="think"),
        a_run_event(1, run=RUN, step=1, text="Let me think"),
        completed("x", 2),
    )

    assert reasoning(parts) == "Let me think"


def test_reasoning_that_was_not_streamed_comes_with_its_event() -> None:
    parts = parts_of(a_run_event(1, run=RUN, step=1, text="hm"), completed("x", 2))

    assert reasoning(parts) == "hm"


def test_reasoning_of_each_step_is_told() -> None:
    parts = parts_of(
        a_delta(RUN, reasoning="one ", step_no=1),
        a_run_event(1, run=RUN, step=1, text="one "),
        a_run_event(2, run=RUN, step=2, text="two"),
        completed("x", 3),
    )

    assert reasoning(parts) == "one two"


def test_reasoning_that_comes_after_its_event_is_not_told_again() -> None:
    """A slow reader finds the event in the store before it comes to the deltas in its queue."""
    parts = parts_of(
        a_run_event(1, run=RUN, step=1, text="hm"),
        a_delta(RUN, reasoning="h"),
        a_delta(RUN, reasoning="m"),
        completed("x", 2),
    )

    assert reasoning(parts) == "hm"


@pytest.mark.parametrize(
    ("type_", "payload", "code"),
    [
        (EventType.RUN_FAILED, {"code": "llm_failed", "message": "The model is away."}, "llm_failed"),
        (EventType.RUN_CANCELLED, {"code": "run_cancelled", "message": "x"}, "run_cancelled"),
        (EventType.RUN_EXPIRED, {"code": "run_expired", "message": "x"}, "run_expired"),
        (EventType.RUN_DEAD, {"code": "run_dead", "message": "x"}, "run_dead"),
    ],
)
def test_a_run_that_ended_badly_is_an_error_with_its_code(type_: EventType, payload: dict[str, Any], code: str) -> None:
    with pytest.raises(MaruntimeError) as refused:
        parts_of(a_delta(RUN, "Hel"), a_run_event(1, type_, run=RUN, **payload))

    assert refused.value.code == code
    assert refused.value.details["run_id"] == "run_1"


def test_every_event_that_ends_a_turn_is_known_here() -> None:
    said = {"text": "", "code": "x", "message": "x"}
    for type_ in EventType:
        if not type_.ends_turn:
            continue
        try:
            parts = parts_of(a_run_event(1, type_, run=RUN, **said))
        except MaruntimeError:
            continue
        assert isinstance(parts[-1], Finished)


def test_other_events_are_passed_on() -> None:
    planned = a_run_event(1, EventType.TOOL_CALL_PLANNED, run=RUN, tool="look")

    assert parts_of(planned, completed("", 2))[0] == Happened(planned)


def test_the_place_counts_epoch_event_and_characters() -> None:
    async def read() -> list[str]:
        reader = Reader(RUN.run_id, 4, NoStore())
        for word in (a_delta(RUN, "Hi 😀"), completed("Hi 😀!", 5, run=NEXT)):
            reader.tell(word)
        stream = TurnStream(reader, idle=5, live=True)
        return [stream.place, *[stream.place async for _ in stream.parts()]]

    assert asyncio.run(read()) == ["0.4.0", "1.4.4", *["3.5.5"] * 3]


async def test_silence_is_a_part() -> None:
    stream = TurnStream(Reader(RUN.run_id, 0, NoStore()), idle=0.001, live=True)

    async with asyncio.timeout(5):
        assert await anext(stream.parts()) == Silence()


async def test_a_stopping_replica_ends_the_stream() -> None:
    reader = Reader(RUN.run_id, 0, NoStore())
    reader.stop()

    with pytest.raises(ReplicaStopping):
        await anext(TurnStream(reader, idle=5, live=True).parts())
