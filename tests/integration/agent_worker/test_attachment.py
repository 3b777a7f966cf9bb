import asyncio
import contextlib
import os
from datetime import timedelta

import grpc.aio
import pytest
import structlog

from agent_worker import attachment, outbox
from agent_worker.attachment import Slot
from agent_worker.instance import AgentInstance
from agent_worker.tools.contract import ToolResult
from agent_worker.tools.executor import ToolExecutor
from maruntime.clock import SystemClock
from maruntime.domain.commit import Commit, EndKind, Verdict
from maruntime.domain.run import RunRef
from maruntime.testing.builders import a_call, an_assignment
from maruntime.wire import frames
from maruntime.wire.channel import CLIENT_OPTIONS
from maruntime.wire.fabric import WorkerStream
from tests.integration.agent_worker.fake_orchestrator import TOKEN, fake_orchestrator
from tests.unit.agent_worker.builders import FINAL, LOOK, RUN, ScriptedLLM, a_worker_template, call, final, reply

TEMPLATE = a_worker_template("look", "final_answer")


class Gate:
    """A tool that waits until it is let go."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, arguments, context):
        self.begun.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return ToolResult("seen")


class Worker:
    """One real slot that dials a real server."""

    def __init__(self, fake, port):
        self.fake = fake
        self.port = port
        self.llm = ScriptedLLM()
        self.gate = Gate()
        self.draining = asyncio.Event()
        self.token = TOKEN

    def start(self):
        clock = SystemClock()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=CLIENT_OPTIONS)
        self.instance = AgentInstance(self.llm, ToolExecutor({"look": self.gate}), clock, self.draining)
        self.slot = Slot(
            worker_id="w1",
            number=4,
            build="test",
            llm_endpoints=("main", "fast"),
            dial=lambda: WorkerStream(self.channel, self.token),
            instance=self.instance,
            clock=clock,
            draining=self.draining,
            redial=timedelta(milliseconds=1),
        )
        self.task = asyncio.create_task(self.slot.serve())
        return self

    async def attached(self, **how):
        return await (await self.fake.dialled()).welcome(**how)

    async def left(self):
        async with asyncio.timeout(5):
            await self.task

    async def running(self, *turns):
        """A stream with a run whose tool waits at the gate; T1 is stored."""
        self.llm.turns = [reply(call("look")), *turns]
        stream = await self.attached()
        await stream.say(assignment())
        t1 = await stream.hears(Commit)
        await stream.say(ack(t1))
        async with asyncio.timeout(5):
            await self.gate.begun.wait()
        return stream

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.channel.close()


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
async def server():
    async with fake_orchestrator() as (fake, port):
        yield fake, port


@pytest.fixture
async def worker(server):
    made = Worker(*server).start()
    yield made
    await made.stop()


def assignment(run=RUN, **overrides):
    said = {"template": TEMPLATE, "tools": (LOOK, FINAL)} | overrides
    return an_assignment(run, **said)


def ack(commit, verdict=Verdict.STORED, **more):
    return frames.Ack(commit.run, commit.commit_no, verdict, **more)


async def test_a_new_slot_says_who_it_is(worker):
    stream = await worker.fake.dialled()

    assert stream.hello == frames.Hello(
        worker_id="w1", instance_id="w1/4", build="test", llm_endpoints=("main", "fast")
    )


async def test_a_run_is_accepted_worked_on_and_the_slot_is_ready_again(worker):
    worker.llm.turns = [reply(final("Hello"))]
    stream = await worker.attached()
    await stream.say(frames.Pin(TEMPLATE), assignment())

    assert await stream.heard() == frames.Accepted(RUN)
    t4 = await stream.hears(Commit)
    assert (t4.end.kind, t4.messages[0].text) == (EndKind.COMPLETED, "Hello")
    assert worker.slot.is_running
    await stream.say(ack(t4))

    assert await stream.heard() == frames.Ready("tplv_1")
    assert not worker.slot.is_running
    assert worker.instance.health().runs_served == 1
    assert worker.instance.health().run_id is None


async def test_a_slot_serves_one_run_after_the_other(worker):
    worker.llm.turns = [reply(final("1")), reply(final("2"))]
    stream = await worker.attached()

    for number in (1, 2):
        run = RunRef(f"run_{number}", 1)
        await stream.say(assignment(run))
        t4 = await stream.hears(Commit)
        assert (t4.run, t4.messages[0].text) == (run, str(number))
        await stream.say(ack(t4))
        await stream.hears(frames.Ready)


async def test_the_pinned_version_is_said_in_the_next_hello(worker):
    stream = await worker.attached()
    worker.llm.turns = [reply(final())]
    await stream.say(assignment())
    await stream.say(ack(await stream.hears(Commit)))
    await stream.hears(frames.Ready)

    stream.end()
    again = await worker.fake.dialled()

    assert (again.hello.template_version_id, again.hello.held) == ("tplv_1", None)


async def test_an_unacknowledged_commit_is_sent_again_on_the_next_stream(worker):
    """Durability, section 3: a lost acknowledgement is harmless."""
    stream = await worker.running(reply(final()))
    worker.gate.opened.set()
    t3 = await stream.hears(Commit)
    stream.end()

    again = await worker.fake.dialled()
    assert again.hello.held == frames.Held(RUN, 1, 0)
    await again.welcome(held_kept=True, held_last_commit=1)

    assert await again.hears(Commit) == t3
    await again.say(ack(t3))
    t4 = await again.hears(Commit)
    assert t4.commit_no == 3
    await again.say(ack(t4))
    await again.hears(frames.Ready)


async def test_a_commit_that_the_store_has_is_not_sent_again(worker):
    stream = await worker.running(reply(final()))
    worker.gate.opened.set()
    t3 = await stream.hears(Commit)
    stream.end()

    again = await (await worker.fake.dialled()).welcome(held_kept=True, held_last_commit=t3.commit_no)

    assert (await again.hears(Commit)).commit_no == 3


async def test_a_run_goes_on_while_there_is_no_stream(worker):
    stream = await worker.running(reply(final()))
    stream.end()
    worker.gate.opened.set()

    again = await (await worker.fake.dialled()).welcome(held_kept=True, held_last_commit=1)

    assert (await again.hears(Commit)).commit_no == 2


async def test_a_run_that_was_not_kept_is_stopped_silently(worker):
    stream = await worker.running(reply(final()))
    stream.end()

    again = await (await worker.fake.dialled()).welcome(held_kept=False)

    assert await again.heard() == frames.Ready("tplv_1")
    assert worker.gate.cancelled.is_set()
    assert not worker.slot.is_running


async def test_a_cancelled_run_is_stopped_silently(worker):
    stream = await worker.running()

    await stream.say(frames.Cancel(RunRef("run_other", 1), "cancelled"), frames.Cancel(RUN, "cancelled"))

    assert await stream.heard() == frames.Ready("tplv_1")
    assert worker.gate.cancelled.is_set()


async def test_a_run_that_is_cancelled_at_once_frees_the_slot(worker):
    worker.llm.turns = [reply(final()), reply(final())]
    stream = await worker.attached()
    await stream.say(assignment(), frames.Cancel(RUN, "cancelled"))
    await stream.hears(frames.Ready)

    await stream.say(assignment(RunRef("run_2", 1)))

    assert await stream.hears(frames.Accepted) == frames.Accepted(RunRef("run_2", 1))


async def test_a_fenced_run_is_left_silently(worker):
    worker.llm.turns = [reply(final())]
    stream = await worker.attached()
    await stream.say(assignment())

    await stream.say(ack(await stream.hears(Commit), Verdict.FENCED))

    assert await stream.heard() == frames.Ready("tplv_1")


async def test_a_run_that_ended_between_hello_and_welcome_makes_the_slot_ready(worker):
    """The store says that it has the last commit only to the stream before; nothing is left to hold."""
    stream = await worker.running()
    stream.end()
    again = await worker.fake.dialled()
    assert again.hello.held is not None
    worker.slot._outbox.lose()
    async with asyncio.timeout(5):
        await worker.gate.cancelled.wait()
        await worker.slot._idle.wait()

    await again.welcome(held_kept=True, held_last_commit=1)

    assert await again.heard() == frames.Ready("tplv_1")


async def test_a_second_run_is_refused_while_one_is_at_work(worker):
    stream = await worker.running(reply(final()))
    other = RunRef("run_2", 1)

    await stream.say(assignment(other))

    assert await stream.heard() == frames.Accepted(other, "busy")
    worker.gate.opened.set()
    t3 = await stream.heard()
    assert isinstance(t3, Commit), "Ready would say that the slot is idle"
    assert t3.run == RUN


async def test_an_unexpected_failure_of_the_instance_costs_the_run_and_not_the_slot(worker, logs):
    stream = await worker.attached()
    worker.llm.turns = [reply(final())]
    await stream.say(assignment(context={"counters": 5}))

    assert await stream.hears(frames.Ready) == frames.Ready("tplv_1")
    assert "run_crashed" in [entry["event"] for entry in logs]
    await stream.say(assignment(RunRef("run_2", 1)))
    assert (await stream.hears(Commit)).run == RunRef("run_2", 1)


async def test_heartbeats_carry_the_run_and_ask_for_renewal(worker):
    worker.llm.turns = [reply(call("look"))]
    stream = await worker.attached(heartbeat=timedelta(milliseconds=5))
    idle = await stream.hears(frames.Heartbeat)
    await stream.say(assignment())
    t1 = await stream.hears(Commit)
    await stream.say(ack(t1))
    async with asyncio.timeout(5):
        await worker.gate.begun.wait()

    beat = await stream.hears(frames.Heartbeat)
    while beat.run is None:
        beat = await stream.hears(frames.Heartbeat)

    assert idle.run is None
    assert (beat.run, beat.nonce > idle.nonce) == (RUN, True)
    await stream.say(frames.HeartbeatAck(beat.nonce, True, beat.nonce))
    later = await stream.hears(frames.Heartbeat)
    await stream.say(frames.HeartbeatAck(later.nonce, False, beat.nonce))
    assert await stream.hears(frames.Ready)


async def test_an_effect_waits_for_the_answer_to_a_heartbeat_when_the_permit_is_over(worker):
    worker.llm.turns = [reply(call("look"))]
    stream = await worker.attached(permit=timedelta(0))
    await stream.say(assignment())
    await stream.say(ack(await stream.hears(Commit)))

    beat = await stream.hears(frames.Heartbeat)

    assert beat.run == RUN
    assert not worker.gate.begun.is_set()


async def test_a_stored_commit_renews_the_lease_by_the_whole_of_it(worker):
    """The assignment says only what was left of it when the run came to its slot."""
    worker.llm.turns = [reply(call("look"))]
    stream = await worker.attached(permit=timedelta(seconds=60), lease=timedelta(seconds=60))
    await stream.say(assignment(lease=timedelta(0)))
    await stream.say(ack(await stream.hears(Commit)))

    async with asyncio.timeout(5):
        await worker.gate.begun.wait()


async def test_an_effect_waits_for_a_renewal_when_nothing_is_left_of_the_lease(worker, monkeypatch):
    monkeypatch.setattr(outbox, "_ASK_AGAIN", 0.01)
    stream = await worker.attached(permit=timedelta(seconds=60), lease=timedelta(seconds=60))
    await stream.say(assignment(lease=timedelta(0), open_calls=(a_call("toolv_look"),), last_commit=1, step_no=1))
    beat = await stream.hears(frames.Heartbeat)
    await stream.say(frames.HeartbeatAck(beat.nonce, True, 0))

    beat = await stream.hears(frames.Heartbeat)

    assert not worker.gate.begun.is_set()
    await stream.say(frames.HeartbeatAck(beat.nonce, True, beat.nonce))
    async with asyncio.timeout(5):
        await worker.gate.begun.wait()


# --- draining


async def test_an_idle_slot_leaves_at_once_when_the_worker_drains(worker):
    stream = await worker.attached()
    await stream.say(frames.Drain(timedelta(seconds=1)))

    await worker.left()

    async with asyncio.timeout(5):
        await stream.gone.wait()
    assert worker.fake.dials == 1


async def test_a_running_slot_finishes_its_step_and_gives_the_run_back(worker):
    stream = await worker.running()
    worker.draining.set()
    assert await stream.heard() == frames.Draining("worker stops")
    worker.gate.opened.set()
    t3 = await stream.heard()
    await stream.say(ack(t3))

    released = await stream.heard()
    assert released.end.kind is EndKind.RELEASED
    assert released.commit_no == 3
    assert not worker.task.done(), "the release is not stored yet"
    await stream.say(ack(released))

    await worker.left()
    assert not worker.slot.is_running


async def test_a_draining_slot_comes_back_to_give_its_run_back(worker):
    stream = await worker.running()
    worker.draining.set()
    await stream.hears(frames.Draining)
    stream.end()

    again = await (await worker.fake.dialled()).welcome(held_kept=True, held_last_commit=1)
    worker.gate.opened.set()
    for _ in range(2):
        await again.say(ack(await again.hears(Commit)))

    await worker.left()


# --- dialling


async def test_a_wrong_token_is_logged_once_and_not_for_every_dial(server, logs, monkeypatch):
    monkeypatch.setattr(attachment, "_REFUSED_PAUSE", 0.001)
    worker = Worker(*server)
    worker.token = "wrong"
    worker.fake.refuse_until = 10
    worker.start()
    async with asyncio.timeout(5):
        await worker.fake.refused.wait()

    said = [entry for entry in logs if entry["event"] == "slot_detached"]
    await worker.stop()

    assert [entry["reason"] for entry in said] == ["UNAUTHENTICATED"]
    assert "wrong" not in repr(logs)


async def test_a_stream_that_begins_without_welcome_is_dialled_again(worker):
    stream = await worker.fake.dialled()
    await stream.say(frames.Drain(timedelta()))

    again = await worker.attached()

    async with asyncio.timeout(5):
        await stream.gone.wait()
    assert again.hello == stream.hello
    assert worker.fake.dials == 2


async def test_an_absent_server_is_dialled_until_it_is_there(logs):
    async with fake_orchestrator() as (_, port):
        pass
    worker = Worker(None, port).start()
    async with asyncio.timeout(5):
        while not any(entry["event"] == "slot_detached" for entry in logs):
            await asyncio.wait({worker.task}, timeout=0.01)

    assert not worker.task.done()
    assert [entry["reason"] for entry in logs if entry["event"] == "slot_detached"] == ["UNAVAILABLE"]
    await worker.stop()


async def test_many_dials_leave_no_descriptors_and_no_tasks(worker):
    async def next_stream():
        stream = await worker.attached(heartbeat=timedelta(milliseconds=1))
        await stream.hears(frames.Heartbeat)
        return stream

    def held():
        tasks = sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("slot_"))
        return len(os.listdir("/proc/self/fd")), tasks

    stream = await next_stream()
    before = held()

    for _ in range(60):
        stream.end()
        stream = await next_stream()

    assert worker.fake.dials == 61
    assert held() == before
    assert before[1] == ["slot_drain", "slot_heartbeat", "slot_reader", "slot_writer"]
