import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest

from agent_worker import outbox as outbox_module
from agent_worker.outbox import CommitUnsendable, Outbox
from maruntime.domain.commit import Commit, Verdict
from maruntime.domain.event import EventType, NewEvent, TextDelta
from maruntime.domain.run import RunRef
from maruntime.errors import Fenced
from maruntime.testing.builders import a_commit
from maruntime.testing.clock import FakeClock
from maruntime.wire import frames
from maruntime.wire.codec import worker_frame_size
from tests.unit.agent_worker.builders import LEASE, RUN, an_outbox


class Stream:
    """One stream that only remembers; the test answers by hand."""

    def __init__(self, outbox: Outbox, **how) -> None:
        self.outbox = outbox
        self.sent: list[frames.WorkerFrame] = []
        self.beats = 0
        self.asked = asyncio.Event()
        outbox.attach(self.sent_one, self.ask, **how)

    def sent_one(self, frame):
        self.sent.append(frame)

    def ask(self):
        self.beats += 1
        self.outbox.beat_sent(self.beats)
        self.asked.set()

    def ack(self, commit_no=1, verdict=Verdict.STORED, run=RUN, **more):
        self.outbox.on_ack(frames.Ack(run, commit_no, verdict, **more))

    def ack_beat(self, nonce, *, still_yours=True, renewed=None):
        self.outbox.on_beat_ack(frames.HeartbeatAck(nonce, still_yours, nonce if renewed is None else renewed))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def outbox(clock):
    return an_outbox(clock)


async def committing(outbox, commit):
    """A commit that has been sent and waits."""
    task = asyncio.create_task(outbox.commit(commit))
    await settled()
    return task


async def settled():
    """Let everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def within(task):
    async with asyncio.timeout(5):
        return await task


async def may_begin(outbox):
    """Whether an effect may begin now, without any news."""
    permit = asyncio.create_task(outbox.permit())
    await settled()
    if permit.done():
        await permit
        return True
    permit.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await permit
    return False


def on_lease_only(clock, **more):
    """An outbox with a permit that lasts: what it says of effects is what its lease says."""
    outbox = Outbox(RUN, last_commit=0, lease=LEASE, permit=timedelta(hours=1), clock=clock, **more)
    stream = Stream(outbox)
    outbox.beat_sent(900)
    stream.ack_beat(900, renewed=0)
    return outbox, stream


# --- commits


async def test_a_commit_waits_until_it_is_stored(outbox):
    stream = Stream(outbox)
    commit = a_commit(RUN)
    task = await committing(outbox, commit)

    assert not task.done()
    stream.ack()
    await within(task)

    assert stream.sent == [commit]
    assert (outbox.last_acked, outbox.next_commit_no) == (1, 2)


async def test_a_second_commit_while_one_is_in_flight_is_a_mistake(outbox):
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))

    with pytest.raises(AssertionError):
        await outbox.commit(a_commit(RUN, 1))

    stream.ack()
    await within(task)


async def test_commit_numbers_are_dense(outbox):
    with pytest.raises(AssertionError):
        await outbox.commit(a_commit(RUN, 2))


async def test_an_unacknowledged_commit_goes_out_unchanged_on_the_next_stream(outbox):
    """Durability, section 3: the unacknowledged frame is resent unchanged."""
    first = Stream(outbox)
    commit = a_commit(RUN)
    task = await committing(outbox, commit)
    outbox.detach()

    second = Stream(outbox, held_last_commit=0, asked_at=1000.0)

    assert first.sent == [commit]
    assert len(second.sent) == 1
    assert second.sent[0] is commit
    second.ack()
    await within(task)


async def test_a_commit_without_a_stream_waits_for_one(outbox):
    task = await committing(outbox, a_commit(RUN))

    stream = Stream(outbox)

    assert stream.sent == [a_commit(RUN)]
    stream.ack()
    await within(task)


async def test_a_commit_that_the_store_has_is_not_sent_again(outbox):
    Stream(outbox)
    task = await committing(outbox, a_commit(RUN))
    outbox.detach()

    second = Stream(outbox, held_last_commit=1, asked_at=1000.0)
    await within(task)

    assert second.sent == []
    assert outbox.last_acked == 1


@pytest.mark.parametrize(("run", "commit_no"), [(RUN, 2), (RUN, 0), (RunRef("run_1", 2), 1), (RunRef("other", 3), 1)])
async def test_an_acknowledgement_of_something_else_is_ignored(outbox, run, commit_no):
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))

    stream.ack(commit_no, run=run)
    stream.ack(commit_no, Verdict.FENCED, run=run)
    await settled()

    assert not task.done()
    stream.ack()
    await within(task)


async def test_a_second_acknowledgement_of_the_same_commit_is_ignored(outbox):
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))
    stream.ack()
    stream.ack()
    await within(task)

    stream.ack()

    assert outbox.last_acked == 1


async def test_a_fenced_commit_loses_the_run(outbox):
    told = []
    outbox.when_lost(lambda: told.append("lost"))
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))

    stream.ack(verdict=Verdict.FENCED)

    with pytest.raises(Fenced):
        await within(task)
    with pytest.raises(Fenced):
        await outbox.commit(a_commit(RUN))
    assert (outbox.is_lost, outbox.last_acked, told) == (True, 0, ["lost"])
    assert len(stream.sent) == 1


async def test_a_commit_that_cannot_be_stored_just_now_is_sent_again(outbox):
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))
    again = asyncio.Event()
    outbox.attach(lambda frame: (stream.sent.append(frame), again.set()), stream.ask)
    again.clear()
    sent_before = len(stream.sent)

    stream.ack(verdict=Verdict.RETRY, retry=timedelta(milliseconds=1))
    async with asyncio.timeout(5):
        await again.wait()

    assert len(stream.sent) == sent_before + 1
    assert stream.sent[-1] is stream.sent[0]
    stream.ack()
    await within(task)


async def test_losing_the_run_wakes_the_waiting_commit_and_tells_once(outbox):
    told = []
    outbox.when_lost(lambda: told.append("lost"))
    Stream(outbox)
    task = await committing(outbox, a_commit(RUN))

    outbox.lose()
    outbox.lose()

    with pytest.raises(Fenced):
        await within(task)
    assert told == ["lost"]


async def test_a_run_that_was_lost_while_detached_sends_nothing_on_the_next_stream(outbox):
    task = await committing(outbox, a_commit(RUN))
    outbox.lose()

    stream = Stream(outbox)

    assert stream.sent == []
    with pytest.raises(Fenced):
        await within(task)


# --- commits that no stream can carry


def saying(text):
    return replace(a_commit(RUN), events=(NewEvent(EventType.STEP_REASONED, {"text": text}),))


def of_size(size):
    """A commit whose frame has exactly this many bytes."""
    commit = saying("x" * size)
    commit = saying("x" * (2 * size - worker_frame_size(commit)))
    assert worker_frame_size(commit) == size
    return commit


@pytest.mark.parametrize(
    "commit",
    [
        of_size(15 * 1024 * 1024 + 1),
        replace(a_commit(RUN), counters={"no": object()}),
        saying("\ud800"),
        replace(a_commit(RUN), step_no=2**63),
    ],
    ids=["too large", "no JSON", "no UTF-8", "no such number"],
)
async def test_a_commit_that_no_stream_can_carry_is_refused_and_never_sent(outbox, commit):
    """It would end the stream, be sent again on the next one and end that too."""
    stream = Stream(outbox)

    with pytest.raises(CommitUnsendable) as caught:
        await within(outbox.commit(commit))

    assert (caught.value.code, stream.sent, outbox.is_lost) == ("result_too_large", [], False)
    task = await committing(outbox, a_commit(RUN))  # the number is free again
    stream.ack()
    await within(task)
    assert stream.sent == [a_commit(RUN)]


async def test_a_commit_of_fifteen_mebibytes_is_sent(outbox):
    stream = Stream(outbox)
    task = await committing(outbox, of_size(15 * 1024 * 1024))

    assert len(stream.sent) == 1
    stream.ack()
    await within(task)


# --- lease and permit


async def test_the_permit_of_a_commit_counts_from_before_it_was_sent(outbox, clock):
    """Durability, section 2: an effect begins within 0.8 s of having *sent* what was acknowledged."""
    stream = Stream(outbox)
    task = await committing(outbox, a_commit(RUN))
    clock.advance(0.7)
    stream.ack()
    await within(task)

    await within(outbox.permit())
    assert stream.beats == 0

    clock.advance(0.1)
    permit = asyncio.create_task(outbox.permit())
    async with asyncio.timeout(5):
        await stream.asked.wait()
    assert not permit.done()
    stream.ack_beat(1)
    await within(permit)


async def test_an_acknowledgement_that_came_too_late_gives_no_permit(outbox, clock):
    stream = Stream(outbox)
    permit = asyncio.create_task(outbox.permit())
    await settled()
    clock.advance(0.8)

    stream.ack_beat(1)
    await settled()

    assert not permit.done()
    assert stream.beats == 1, "there is a pause before the next question"
    outbox.beat_sent(2)  # the slot's own heartbeat
    stream.ack_beat(2)
    await within(permit)


async def test_a_heartbeat_that_nobody_answers_is_repeated(outbox, monkeypatch):
    monkeypatch.setattr(outbox_module, "_ASK_AGAIN", 0.001)
    stream = Stream(outbox)
    permit = asyncio.create_task(outbox.permit())

    for _ in range(3):
        stream.asked.clear()
        async with asyncio.timeout(5):
            await stream.asked.wait()

    assert not permit.done()
    assert not outbox.is_lost
    stream.ack_beat(stream.beats)
    await within(permit)


async def test_the_permit_of_a_resent_commit_counts_from_the_first_sending(outbox, clock):
    """The acknowledgement may be of the first frame; between the two somebody else may have had the run."""
    Stream(outbox)
    task = await committing(outbox, a_commit(RUN))
    outbox.detach()
    clock.advance(0.7)
    second = Stream(outbox, held_last_commit=0, asked_at=clock.monotonic())
    second.ack()
    await within(task)

    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


async def test_the_lease_of_a_resent_commit_counts_from_the_first_sending(clock):
    outbox, stream = on_lease_only(clock)
    clock.advance(1)
    task = await committing(outbox, a_commit(RUN))
    clock.advance(9)
    stream = Stream(outbox)
    assert stream.sent == [a_commit(RUN)]
    stream.ack()
    await within(task)

    clock.advance(5.9)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


async def test_a_permit_waits_for_a_stream(outbox):
    permit = asyncio.create_task(outbox.permit())
    await settled()
    stream = Stream(outbox)
    await settled()

    assert stream.beats == 1
    stream.ack_beat(1)
    await within(permit)


async def test_a_heartbeat_of_an_older_stream_gives_no_permit(outbox):
    first = Stream(outbox)
    permit = asyncio.create_task(outbox.permit())
    await settled()
    outbox.detach()
    second = Stream(outbox)

    first.ack_beat(7)
    await settled()

    assert not permit.done()
    assert second.beats == 1
    second.ack_beat(1)
    await within(permit)


async def test_a_run_that_is_not_ours_any_more_gives_no_permit(outbox):
    stream = Stream(outbox)
    permit = asyncio.create_task(outbox.permit())
    await settled()

    stream.ack_beat(1, still_yours=False)

    with pytest.raises(Fenced):
        await within(permit)


async def test_cancelling_is_losing(outbox):
    stream = Stream(outbox)
    permit = asyncio.create_task(outbox.permit())
    await settled()

    outbox.lose()

    with pytest.raises(Fenced):
        await within(permit)
    assert stream.beats == 1


async def test_no_effect_begins_after_the_lease_ran_out_until_it_is_renewed(outbox, clock):
    """Durability, section 2: with self-fencing, no late call in 35 SIGSTOPs."""
    told = []
    outbox.when_lost(lambda: told.append("lost"))
    stream = Stream(outbox)
    clock.advance(15)
    permit = asyncio.create_task(outbox.permit())
    await settled()

    assert not permit.done()
    assert (told, stream.beats, outbox.is_lost) == ([], 1, False), "only the store says that the run is lost"
    stream.ack_beat(1)
    await within(permit)


async def test_a_run_whose_lease_ran_out_is_lost_when_it_is_told_so(outbox, clock):
    told = []
    outbox.when_lost(lambda: told.append("lost"))
    stream = Stream(outbox)
    clock.advance(15)
    permit = asyncio.create_task(outbox.permit())
    await settled()

    stream.ack_beat(1, still_yours=False)

    with pytest.raises(Fenced):
        await within(permit)
    assert told == ["lost"]


@pytest.mark.parametrize("late", [15, 3600])
async def test_a_commit_is_sent_and_stored_after_the_lease_ran_out(outbox, clock, late):
    """Work that is done is not thrown away by a clock: the store's fence decides."""
    stream = Stream(outbox)
    clock.advance(late)
    task = await committing(outbox, a_commit(RUN))
    assert stream.sent == [a_commit(RUN)]
    clock.advance(late)

    stream.ack()
    await within(task)

    assert (outbox.last_acked, outbox.is_lost) == (1, False)


async def test_a_heartbeat_without_a_renewal_does_not_wake_who_waits_for_the_lease(outbox, clock):
    """Waking it would ask again at once, for as long as the store is away."""
    stream = Stream(outbox)
    clock.advance(15)
    permit = asyncio.create_task(outbox.permit())
    await settled()

    stream.ack_beat(1, renewed=0)
    await settled()

    assert not permit.done()
    assert stream.beats == 1
    outbox.beat_sent(2)
    stream.ack_beat(2, renewed=2)
    await within(permit)


async def test_a_permit_that_is_still_fresh_does_not_outlive_the_lease(clock):
    outbox, stream = on_lease_only(clock)
    assert await may_begin(outbox)

    clock.advance(15)

    assert not await may_begin(outbox)
    stream.ack_beat(stream.beats)
    assert await may_begin(outbox)


async def test_what_was_left_of_the_lease_counts_for_its_beginning_only(clock):
    """A run that waited for its slot has spent a part of its lease; a renewal gives a whole one."""
    outbox, stream = on_lease_only(clock, lease_left=timedelta(seconds=3))
    clock.advance(2.9)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)

    stream.ack_beat(stream.beats)

    clock.advance(14.9)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


async def test_a_stored_commit_extends_the_lease_from_before_it_was_sent(clock):
    outbox, stream = on_lease_only(clock)
    clock.advance(10)
    task = await committing(outbox, a_commit(RUN))
    clock.advance(4)
    stream.ack()
    await within(task)

    clock.advance(10.9)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


async def test_only_a_stored_renewal_extends_the_lease(clock):
    outbox, stream = on_lease_only(clock)
    clock.advance(5)
    outbox.beat_sent(901)
    stream.ack_beat(901, renewed=900)  # sent at the beginning
    clock.advance(9)
    outbox.beat_sent(902)
    stream.ack_beat(902, renewed=901)

    clock.advance(5.9)
    outbox.beat_sent(903)
    stream.ack_beat(903, renewed=901)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


async def test_coming_back_with_the_run_extends_the_lease_from_before_hello(clock):
    """A worker that was stopped between Hello and Welcome must not count the time that it slept."""
    outbox, _ = on_lease_only(clock)
    outbox.detach()
    clock.advance(14)
    said_hello = clock.monotonic()
    clock.advance(9)
    Stream(outbox, held_last_commit=0, asked_at=said_hello)

    clock.advance(5.9)
    assert await may_begin(outbox)
    clock.advance(0.1)
    assert not await may_begin(outbox)


# --- text


def texts(stream):
    return [frame for frame in stream.sent if isinstance(frame, TextDelta)]


async def test_pieces_that_come_close_together_are_one_frame(outbox):
    sent = asyncio.Event()
    got = []
    outbox.attach(lambda frame: (got.append(frame), sent.set()), lambda: None)
    outbox.begin_step(1)
    for piece in ("Héllo", " ", "wörld"):
        outbox.say(content=piece)
    outbox.say(reasoning="so")

    assert got == []
    async with asyncio.timeout(5):
        await sent.wait()

    assert got == [TextDelta("run_1", 3, 1, 0, "Héllo wörld", "so")]


async def test_offsets_count_the_characters_of_the_steps_content(outbox):
    stream = Stream(outbox)
    outbox.begin_step(1)
    for content, reasoning in (("a😀é", ""), ("", "thought"), ("b", "more"), ("c", "")):
        outbox.say(content=content, reasoning=reasoning)
        outbox.flush()

    assert [(frame.offset, frame.content) for frame in texts(stream)] == [(0, "a😀é"), (3, ""), (3, "b"), (4, "c")]


async def test_a_steps_text_begins_at_its_first_character_again(outbox):
    stream = Stream(outbox)
    outbox.begin_step(1)
    outbox.say(content="void")
    outbox.begin_step(1)
    outbox.say(content="real")
    outbox.begin_step(2)
    outbox.say(content="next")
    outbox.flush()

    said = [(frame.step_no, frame.offset, frame.content) for frame in texts(stream)]
    assert said == [(1, 0, "void"), (1, 0, "real"), (2, 0, "next")]


async def test_text_without_a_stream_is_lost_and_its_place_is_kept(outbox):
    outbox.begin_step(1)
    outbox.say(content="lost")
    outbox.flush()

    stream = Stream(outbox)
    outbox.say(content="heard")
    outbox.flush()

    assert [(frame.offset, frame.content) for frame in texts(stream)] == [(4, "heard")]


async def test_text_of_a_lost_run_is_not_said(outbox):
    stream = Stream(outbox)
    outbox.say(content="secret")
    outbox.lose()

    outbox.flush()

    assert stream.sent == []


async def test_a_commit_sends_the_text_before_itself(outbox):
    stream = Stream(outbox)
    outbox.begin_step(1)
    outbox.say(content="first")
    task = await committing(outbox, a_commit(RUN))

    assert [type(frame) for frame in stream.sent] == [TextDelta, Commit]
    stream.ack()
    await within(task)
