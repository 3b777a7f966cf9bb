import asyncio
import contextlib
from datetime import timedelta

import grpc
import grpc.aio
import pytest
import structlog

from agent_worker import attachment
from agent_worker.attachment import Slot
from agent_worker.instance import AgentInstance
from agent_worker.tools.executor import ToolExecutor
from maruntime.domain.commit import Commit
from maruntime.domain.event import TextDelta
from maruntime.testing.builders import a_commit, an_assignment
from maruntime.testing.clock import FakeClock
from maruntime.wire import frames
from tests.unit.agent_worker.builders import RUN, ScriptedLLM

WELCOME = frames.Welcome("att", timedelta(seconds=60), timedelta(seconds=15), timedelta(seconds=0.8))


class Line:
    """A stream whose call is over for the writer before the reader has noticed."""

    def __init__(self):
        self.sent = []
        self.cancelled = False

    async def send(self, frame):
        if self.sent:
            raise asyncio.InvalidStateError("RPC already finished.")
        self.sent.append(frame)

    async def receive(self):
        if len(self.sent) == 1 and not hasattr(self, "welcomed"):
            self.welcomed = True
            return frames.Welcome("att", timedelta(milliseconds=1), timedelta(seconds=15), timedelta(seconds=0.8))
        return await asyncio.Event().wait()

    def cancel(self):
        self.cancelled = True


class StuckLine:
    """A stream that welcomes, assigns a run, and whose transport then stays full until it is let go."""

    def __init__(self, *said):
        self.said = [*said]
        self.sent = []
        self.flows = asyncio.Event()
        self.committed = asyncio.Event()

    async def send(self, frame):
        if not isinstance(frame, frames.Hello):
            await self.flows.wait()
        self.sent.append(frame)
        if isinstance(frame, Commit):
            self.committed.set()

    async def receive(self):
        return self.said.pop(0) if self.said else await asyncio.Event().wait()

    def cancel(self):
        pass


class FailsWhenCancelled(StuckLine):
    """A stream that breaks in the moment in which it is given up."""

    def __init__(self, *said):
        super().__init__(*said)
        self.waits = asyncio.Event()

    async def receive(self):
        if self.said:
            return self.said.pop(0)
        self.waits.set()
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise status(grpc.StatusCode.UNAVAILABLE) from None


class Talkative:
    """An instance that says a lot before it commits."""

    template = None

    def __init__(self, deltas):
        self.deltas = deltas
        self.has_said = asyncio.Event()

    async def run(self, assignment, outbox):
        outbox.begin_step(1)
        for _ in range(self.deltas):
            outbox.say(content="x")
            outbox.flush()
        self.has_said.set()
        await outbox.commit(a_commit(assignment.run))

    def reset(self):
        pass


class Ends:
    """Dials that end one after the other as scripted; the last one stays open."""

    def __init__(self, *ends):
        self.ends = [*ends]
        self.dialled = 0

    def __call__(self):
        self.dialled += 1
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, Exception) and not isinstance(end, grpc.RpcError):
            raise end
        return _Ending(end)


class _Ending:
    def __init__(self, end):
        self.end = end

    async def send(self, frame):
        pass

    async def receive(self):
        if self.end is None:
            await asyncio.Event().wait()
        raise self.end

    def cancel(self):
        pass


class Pauses:
    """`asyncio` as the slot sees it: a pause is written down and over at once."""

    def __init__(self):
        self.made = []

    def __getattr__(self, name):
        return getattr(asyncio, name)

    async def sleep(self, seconds):
        self.made.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def pauses(monkeypatch):
    made = Pauses()
    monkeypatch.setattr(attachment, "asyncio", made)
    return made


@contextlib.asynccontextmanager
async def serving(dial, instance=None):
    """A slot at work; its redial pause is the default of the settings."""
    clock, draining = FakeClock(), asyncio.Event()
    slot = Slot(
        worker_id="w1",
        number=0,
        build="test",
        llm_endpoints=("main",),
        dial=dial,
        instance=instance or AgentInstance(ScriptedLLM(), ToolExecutor({}), clock, draining),
        clock=clock,
        draining=draining,
        redial=timedelta(milliseconds=100),
    )
    task = asyncio.create_task(slot.serve())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition, task):
    """Let the slot go on until something is true of it."""
    async with asyncio.timeout(5):
        while not condition():
            assert not task.done(), task.exception()
            await asyncio.sleep(0)


def status(code):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


async def test_a_call_that_is_over_for_the_writer_first_is_dialled_again(pauses):
    """gRPC says InvalidStateError then, which is no RpcError: the slot must outlive it."""
    lines = []

    def dial():
        lines.append(Line())
        return lines[-1]

    async with serving(dial) as task:
        await until(lambda: len(lines) >= 3, task)

        assert [line.cancelled for line in lines[:2]] == [True, True]


# --- pauses between dials


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "FAILED_PRECONDITION", "INVALID_ARGUMENT"])
async def test_who_is_refused_waits_seconds_before_the_next_dial(pauses, code):
    """A thousand slots with a wrong token must not knock ten thousand times a second."""
    dial = Ends(status(grpc.StatusCode[code]))
    async with serving(dial) as task:
        await until(lambda: dial.dialled == 2, task)

    assert [2.5 <= pause <= 7.5 for pause in pauses.made] == [True]


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "RESOURCE_EXHAUSTED"])
async def test_a_lost_stream_is_dialled_again_at_once(pauses, code):
    """A run that is held has one second of grace: seconds of pause would lose it."""
    dial = Ends(status(grpc.StatusCode[code]))
    async with serving(dial) as task:
        await until(lambda: dial.dialled == 2, task)

    assert [0.05 <= pause <= 0.15 for pause in pauses.made] == [True]


async def test_a_refusal_does_not_slow_down_the_dials_behind_it(pauses):
    dial = Ends(status(grpc.StatusCode.UNAUTHENTICATED), status(grpc.StatusCode.UNAVAILABLE), OSError("broken"))
    async with serving(dial) as task:
        await until(lambda: dial.dialled == 4, task)

    assert [pause > 1 for pause in pauses.made] == [True, False, True]


async def test_an_unexpected_failure_of_a_slot_is_logged_and_does_not_end_the_worker(pauses, logs):
    """All slots are one task group: one that ended would take the runs of the others with it."""
    dial = Ends(KeyError("defect"), status(grpc.StatusCode.UNAVAILABLE))
    async with serving(dial) as task:
        await until(lambda: dial.dialled == 3, task)

    failed = [entry for entry in logs if entry["event"] == "slot_failed"]
    assert [(entry["instance_id"], entry["log_level"]) for entry in failed] == [("w1/0", "error")]
    assert [pause > 1 for pause in pauses.made] == [True, False]


async def test_an_unexpected_frame_in_the_middle_of_a_stream_does_not_end_the_worker(pauses, logs):
    lines = []

    def dial():
        lines.append(StuckLine(WELCOME, frames.Pin(None)))
        return lines[-1]

    async with serving(dial) as task:
        await until(lambda: len(lines) == 2, task)

    assert "slot_failed" in [entry["event"] for entry in logs]


async def test_a_slot_that_is_stopped_while_its_stream_ends_stops(pauses):
    """The stream's end must not swallow the worker's: it would dial on for ever."""
    line = FailsWhenCancelled(WELCOME)
    async with serving(lambda: line) as task:
        await until(line.waits.is_set, task)

        task.cancel()

        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task


# --- a stream that is stuck


@pytest.mark.parametrize(("said", "kept"), [(500, 500), (512, 512), (513, 512), (5000, 512)])
async def test_text_beyond_what_may_wait_is_dropped_and_a_commit_never_is(said, kept):
    """The step's message has the whole text; memory must not grow with a client's patience."""
    line, instance = StuckLine(WELCOME, an_assignment(RUN)), Talkative(said)
    async with serving(lambda: line, instance) as task:
        await until(instance.has_said.is_set, task)
        line.flows.set()
        await until(line.committed.is_set, task)

    hello, accepted, *deltas, commit = line.sent
    assert isinstance(hello, frames.Hello)
    assert accepted == frames.Accepted(RUN)
    assert all(isinstance(frame, TextDelta) for frame in deltas)
    assert [frame.offset for frame in deltas] == list(range(kept))
    assert commit == a_commit(RUN)
