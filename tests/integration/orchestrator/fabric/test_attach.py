"""One worker's stream over real gRPC, from Hello to its end (durability.md §2, §3)."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Verdict
from maruntime.domain.event import EventType, TextDelta
from maruntime.domain.instance import InstanceState
from maruntime.domain.run import RunRef
from maruntime.testing.builders import a_commit, a_hello, an_event, completing, user
from maruntime.wire import frames
from orchestrator.fabric.server import PortTaken, listening
from tests.integration.orchestrator.fabric.conftest import (
    CHAT_KEY,
    Open,
    Replica,
    Worker,
    fabric_settings,
)
from tests.integration.orchestrator.ledger import ALICE, Ledger


async def state_of(replica: Replica, wanted: InstanceState, instance_id: str = "w1/0") -> None:
    async with asyncio.timeout(5):
        while (slot := replica.slots.get(instance_id)) is None or slot.state is not wanted:
            await asyncio.sleep(0.005)


async def until_released(ledger: Ledger, run_id: str) -> None:
    async with asyncio.timeout(5):
        while (await ledger.run(run_id))["state"] != "QUEUED":
            await asyncio.sleep(0.01)


async def with_a_run(ledger: Ledger, replica: Replica, *, hello: frames.Hello | None = None) -> tuple[Worker, RunRef]:
    worker = await replica.dial(hello)
    turn = await ledger.queued()
    replica.dispatcher.run_accepted(turn.run_id, "main")
    run = (await worker.takes()).run
    await state_of(replica, InstanceState.RUNNING, hello.instance_id if hello else "w1/0")
    return worker, run


# --- greeting


async def test_hello_is_answered_with_the_times_to_keep(replica: Replica) -> None:
    worker = await replica.dial()

    slot = replica.slots.get("w1/0")
    assert slot is not None
    assert worker.welcome == frames.Welcome(
        attachment_id=slot.attachment,
        heartbeat=timedelta(seconds=5),
        lease=timedelta(seconds=15),
        permit=timedelta(milliseconds=50),
    )
    assert (slot.state, slot.llm_endpoints, slot.worker_id) == (InstanceState.IDLE, ("main",), "w1")


async def test_a_pinned_slot_says_what_it_is_pinned_to(ledger: Ledger, replica: Replica) -> None:
    await replica.dial(a_hello(template_version_id=ledger.template.id))

    slot = replica.slots.get("w1/0")
    assert slot is not None
    assert (slot.template_name, slot.template_version_id) == ("assistant", ledger.template.id)


@pytest.mark.parametrize(
    ("token", "status"),
    [
        ("", grpc.StatusCode.UNAUTHENTICATED),
        ("no-such-token", grpc.StatusCode.UNAUTHENTICATED),
        (CHAT_KEY, grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_without_the_join_token_nobody_attaches(replica: Replica, token: str, status: grpc.StatusCode) -> None:
    worker = await replica.dial(token=token, greet=False)

    refused = await worker.is_refused()

    assert refused.code() is status
    assert len(replica.slots) == 0


async def test_another_protocol_is_refused_with_both_numbers(replica: Replica) -> None:
    worker = await replica.dial(greet=False)
    await worker.say(a_hello(protocol=99))

    refused = await worker.is_refused()

    assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "protocol 1, not 99" in str(refused.details())


async def test_a_stream_that_does_not_begin_with_hello_is_refused(replica: Replica) -> None:
    worker = await replica.dial(greet=False)
    await worker.say(frames.Draining("?"))

    assert (await worker.is_refused()).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("broken", [a_hello(), frames.Ready("tplv_another")])
async def test_a_frame_that_cannot_be_said_here_ends_the_stream(replica: Replica, broken: frames.WorkerFrame) -> None:
    worker = await replica.dial()

    await worker.say(broken)

    assert (await worker.is_refused()).code() is grpc.StatusCode.INVALID_ARGUMENT
    await replica.gone("w1/0")


# --- a run


async def test_a_run_goes_through_from_message_to_answer(ledger: Ledger, replica: Replica) -> None:
    worker = await replica.dial()
    turn = await ledger.queued(ALICE, user("Hi"), temperature=0.5)
    with replica.bus.subscribed(turn.run_id, 0) as reader:
        replica.dispatcher.run_accepted(turn.run_id, "main")
        assignment = await worker.takes()
        run = assignment.run
        await worker.say(
            TextDelta(run.run_id, run.epoch, 1, 0, "Hel"),
            a_commit(run, 1, counters={"iterations": 1}, events=(an_event(step=1, text=""),)),
            completing(run, 2, text="Hello"),
        )

        acks = [await worker.hear(frames.Ack) for _ in range(2)]
        words = reader.words(5)
        async with asyncio.timeout(5):
            told = [await anext(words) for _ in range(4)]

    assert worker.heard[1] == frames.Pin(assignment.template.model_copy(update={"created_at": None}))
    assert (assignment.transcript, assignment.template.id) == ((user("Hi"),), ledger.template.id)
    assert assignment.context == {"counters": {}, "llm_parameters": {"temperature": 0.5}}
    assert [tool.name for tool in assignment.tools] == ["clarification", "create_report", "final_answer"]
    assert [(ack.commit_no, ack.verdict, ack.last_seq) for ack in acks] == [
        (1, Verdict.STORED, 2),
        (2, Verdict.STORED, 3),
    ]
    assert isinstance(told[0], TextDelta) or isinstance(told[1], TextDelta)
    assert [word.type for word in told if not isinstance(word, TextDelta)] == [
        EventType.RUN_ACCEPTED,
        EventType.STEP_REASONED,
        EventType.RUN_COMPLETED,
    ]
    assert (await ledger.run(turn.run_id))["state"] == "COMPLETED"
    assert await ledger.messages(turn.session_id) == [("user", "Hi"), ("assistant", "Hello")]


async def test_a_slot_is_free_again_when_its_reset_is_done(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    await worker.say(completing(run, 1))
    await worker.hear(frames.Ack)
    slot = replica.slots.get("w1/0")
    assert slot is not None
    assert (slot.state, slot.runs_served) == (InstanceState.RESETTING, 1)

    await worker.say(frames.Ready(ledger.template.id))
    second = await ledger.queued()
    replica.dispatcher.run_accepted(second.run_id, "main")

    assert (await worker.takes()).run.run_id == second.run_id


async def test_a_frame_that_is_sent_twice_is_acknowledged_twice_and_stored_once(
    ledger: Ledger, replica: Replica
) -> None:
    worker, run = await with_a_run(ledger, replica)
    commit = a_commit(run, 1, events=(an_event(step=1),))

    await worker.say(commit, commit)
    acks = [await worker.hear(frames.Ack) for _ in range(2)]

    assert [ack.verdict for ack in acks] == [Verdict.STORED] * 2
    assert [seq for seq, _, _ in await ledger.events(run.run_id)] == [1, 2]


async def test_the_commit_of_an_owner_that_lost_its_run_is_told_to_be_fenced(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    await ledger.journal.close_session(ALICE, (await ledger.run(run.run_id))["session_id"])

    await worker.say(completing(run, 1))

    assert (await worker.hear(frames.Ack)).verdict is Verdict.FENCED


async def test_text_of_a_run_that_is_not_the_slots_own_is_not_told(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    with replica.bus.subscribed(run.run_id, 1) as reader:
        await worker.say(TextDelta(run.run_id, run.epoch - 1, 1, 0, "old"), a_commit(run, 1, events=(an_event(),)))

        async with asyncio.timeout(5):
            word = await anext(reader.words(5))

    assert not isinstance(word, TextDelta)


async def test_a_refused_run_goes_back_to_the_queue(ledger: Ledger, replica: Replica) -> None:
    worker = await replica.dial()
    turn = await ledger.queued()
    replica.dispatcher.run_accepted(turn.run_id, "main")
    run = (await worker.hear(Assignment)).run

    await worker.say(frames.Accepted(run, "busy"))

    await until_released(ledger, turn.run_id)
    await state_of(replica, InstanceState.RESETTING)


# --- leases


async def test_a_heartbeat_renews_the_lease_and_says_so(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    await ledger.run_out(run.run_id)

    first = await worker.beats(run, 7)
    stored = await worker.hear(frames.HeartbeatAck, until=lambda ack: ack.renewed_nonce == 7)

    assert (first.still_yours, first.renewed_nonce, stored.still_yours) == (True, 0, True)
    assert await ledger.journal.sweep_leases() == ()


async def test_a_heartbeat_without_a_run_is_answered(replica: Replica) -> None:
    worker = await replica.dial()

    ack = await worker.beats(None, 3)

    assert (ack.still_yours, ack.renewed_nonce) == (False, 0)


async def test_a_run_that_was_taken_over_is_cancelled_and_the_slot_is_free_after_ready(
    ledger: Ledger, replica: Replica
) -> None:
    worker, run = await with_a_run(ledger, replica)
    await ledger.run_out(run.run_id)
    await ledger.journal.sweep_leases()
    await ledger.put(run.run_id, llm_endpoint="elsewhere")

    await worker.beats(run, 1)
    lost = await worker.hear(frames.Cancel)
    after = await worker.beats(run, 2)
    await worker.say(frames.Ready(ledger.template.id))
    await state_of(replica, InstanceState.IDLE)

    assert lost == frames.Cancel(run, "lost")
    assert after.still_yours is False
    second = await ledger.queued()
    replica.dispatcher.run_accepted(second.run_id, "main")
    assert (await worker.takes()).run.run_id == second.run_id


# --- the end of a stream


async def test_a_run_whose_stream_ended_is_released_after_the_grace(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)

    worker.stream.cancel()
    await replica.gone("w1/0")
    at_once = await ledger.run(run.run_id)
    await until_released(ledger, run.run_id)

    assert (at_once["state"], at_once["epoch"]) == ("RUNNING", run.epoch)
    assert (await ledger.events(run.run_id))[-1] == (2, run.epoch + 1, "RunRequeued")


async def test_a_worker_that_comes_back_keeps_its_run_in_the_same_epoch(
    ledger: Ledger, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, run = await with_a_run(ledger, replica)
    released = asyncio.Event()
    release = ledger.journal.release

    async def watched(*args: Any, **options: Any) -> Any:
        try:
            return await release(*args, **options)
        finally:
            released.set()

    monkeypatch.setattr(ledger.journal, "release", watched)
    await worker.say(a_commit(run, 1))
    await worker.hear(frames.Ack)
    worker.stream.cancel()

    again = await replica.dial(a_hello(template_version_id=ledger.template.id, held=frames.Held(run, 1, 1)))
    async with asyncio.timeout(5):
        await released.wait()  # the grace of the first stream has passed, and its release changed nothing
    await again.say(completing(run, 2))

    assert again.welcome is not None
    assert (again.welcome.held_kept, again.welcome.held_last_commit) == (True, 1)
    assert (await again.hear(frames.Ack)).verdict is Verdict.STORED
    row = await ledger.run(run.run_id)
    assert (row["state"], row["epoch"]) == ("COMPLETED", run.epoch)


async def test_a_worker_may_come_back_on_another_replica(
    ledger: Ledger, replica: Replica, opened_replica: Open
) -> None:
    worker, run = await with_a_run(ledger, replica)
    async with opened_replica() as other:
        again = await other.dial(a_hello(template_version_id=ledger.template.id, held=frames.Held(run, 0, 0)))
        stale = await worker.beats(run, 1)
        lost = await worker.hear(frames.Cancel)
        await again.say(a_commit(run, 1))

        assert (await again.hear(frames.Ack)).verdict is Verdict.STORED
        assert again.welcome is not None
        assert (again.welcome.held_kept, stale.still_yours, lost.run) == (True, True, run)


async def test_a_commit_stored_just_before_the_break_need_not_be_sent_again(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    await worker.say(a_commit(run, 1))
    await worker.hear(frames.Ack)
    worker.stream.cancel()

    again = await replica.dial(a_hello(template_version_id=ledger.template.id, held=frames.Held(run, 0, 0)))

    assert again.welcome is not None
    assert again.welcome.held_last_commit == 1


async def test_a_worker_that_comes_back_too_late_lets_its_run_go(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    worker.stream.cancel()
    await until_released(ledger, run.run_id)
    await ledger.put(run.run_id, llm_endpoint="elsewhere")

    again = await replica.dial(a_hello(template_version_id=ledger.template.id, held=frames.Held(run, 0, 0)))

    assert again.welcome is not None
    assert again.welcome.held_kept is False
    await state_of(replica, InstanceState.RESETTING)
    await again.say(frames.Ready(ledger.template.id))
    await state_of(replica, InstanceState.IDLE)


async def test_a_newer_stream_of_an_instance_is_not_forgotten_with_the_older_one(replica: Replica) -> None:
    old = await replica.dial()
    new = await replica.dial()

    old.stream.cancel()
    ack = await new.beats(None, 1)

    slot = replica.slots.get("w1/0")
    assert ack.nonce == 1
    assert slot is not None
    assert new.welcome is not None
    assert slot.attachment == new.welcome.attachment_id


async def test_a_draining_slot_finishes_its_run_and_gets_no_other(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)

    await worker.say(frames.Draining("stops"), completing(run, 1), frames.Ready(ledger.template.id))
    await state_of(replica, InstanceState.DRAINING)

    assert replica.slots.offer() is None


async def test_an_idle_slot_that_drains_is_not_offered(replica: Replica) -> None:
    worker = await replica.dial()

    await worker.say(frames.Draining("stops"))

    await state_of(replica, InstanceState.DRAINING)
    assert replica.slots.offer() is None


async def test_a_stopping_replica_releases_nothing(ledger: Ledger, replica: Replica) -> None:
    worker, run = await with_a_run(ledger, replica)
    replica.attachments.stop()

    worker.stream.cancel()
    await replica.gone("w1/0")

    assert replica.attachments._orphans.empty()
    assert (await ledger.run(run.run_id))["state"] == "RUNNING"


async def test_a_taken_port_is_said_in_one_line(replica: Replica) -> None:
    async def nobody(stream: object) -> None:
        return None

    with pytest.raises(PortTaken):
        async with listening(fabric_settings(port=replica.port), nobody):
            pass
