"""Leases, attachments and the ends from outside (durability.md §2, §7)."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from maruntime.domain.commit import CallState, Verdict
from maruntime.domain.event import EventType
from maruntime.domain.run import RunRef
from maruntime.testing.builders import a_call, a_commit, waiting
from tests.integration.orchestrator.ledger import (
    ALICE,
    MAX_ATTEMPTS,
    Ledger,
    OneConnection,
    a_turn,
    journal_over,
    offer,
    until_blocked,
)

# --- renew


async def test_a_lease_is_renewed_for_its_epoch_and_attachment_only(ledger: Ledger) -> None:
    mine = await ledger.running("w1/0", "a1")
    other = await ledger.running("w2/0", "a2")
    for run in (mine, other):
        await ledger.run_out(run.run_id)

    renewed = await ledger.journal.renew(
        [
            (mine, "a1"),
            (other, "a1"),
            (RunRef(other.run_id, other.epoch - 1), "a2"),
            (RunRef(other.run_id, other.epoch + 1), "a2"),
            (RunRef("run_unknown", 1), "a1"),
        ]
    )

    assert renewed == {mine}
    events = await ledger.journal.sweep_leases()
    assert [event.run_id for event in events] == [other.run_id]


async def test_a_run_that_has_ended_is_not_renewed(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(waiting(run))

    assert await ledger.journal.renew([(run, "a1")]) == set()


# --- re-attach


async def test_a_run_moves_to_another_stream_with_the_same_epoch(ledger: Ledger) -> None:
    run = await ledger.running("w1/0", "a1")
    await ledger.journal.commit(a_commit(run, 1))

    last_commit = await ledger.journal.reattach(run, owner="w1/0", attachment="a2")

    row = await ledger.run(run.run_id)
    assert (last_commit, row["attachment"], row["epoch"]) == (1, "a2", run.epoch)
    assert await ledger.journal.renew([(run, "a1")]) == set()
    assert await ledger.journal.release(run, "a1") == ()
    assert await ledger.journal.renew([(run, "a2")]) == {run}
    assert (await ledger.journal.commit(a_commit(run, 2))).verdict is Verdict.STORED


async def test_a_run_may_be_taken_up_again_after_its_lease_if_nobody_claimed_it(ledger: Ledger) -> None:
    run = await ledger.running("w1/0", "a1")
    await ledger.run_out(run.run_id)

    assert await ledger.journal.reattach(run, owner="w1/0", attachment="a2") == 0
    assert await ledger.journal.sweep_leases() == ()


async def test_a_run_that_somebody_claimed_is_lost(ledger: Ledger) -> None:
    run = await ledger.running("w1/0", "a1")
    await ledger.run_out(run.run_id)
    await ledger.journal.sweep_leases()
    assert await ledger.journal.reattach(run, owner="w1/0", attachment="a2") is None
    await ledger.claimed("w2/0", "b1")

    assert await ledger.journal.reattach(run, owner="w1/0", attachment="a2") is None
    assert (await ledger.run(run.run_id))["attachment"] == "b1"


async def test_a_run_cannot_be_taken_up_by_another_instance(ledger: Ledger) -> None:
    run = await ledger.running("w1/0", "a1")

    assert await ledger.journal.reattach(run, owner="w1/1", attachment="a2") is None


# --- release


async def test_a_released_run_can_be_claimed_at_once_and_keeps_its_place(ledger: Ledger) -> None:
    first = await ledger.queued()
    await ledger.queued()
    run = (await ledger.claimed()).run

    events = await ledger.journal.release(run, "a1")

    assert [(event.seq, event.epoch, event.type, event.payload) for event in events] == [
        (2, 2, EventType.RUN_REQUEUED, {"reason": "link_lost"})
    ]
    assert events == await ledger.journal.events_after(run.run_id, 1)
    assert (await ledger.claimed("w2/0", "a2")).run == RunRef(first.run_id, 3)


@pytest.mark.parametrize(("epoch", "attachment"), [(1, "a2"), (0, "a1"), (2, "a1")])
async def test_a_release_by_another_attachment_or_epoch_does_nothing(
    ledger: Ledger, epoch: int, attachment: str
) -> None:
    run = await ledger.running("w1/0", "a1")
    before = await ledger.whole()

    assert await ledger.journal.release(RunRef(run.run_id, epoch), attachment) == ()
    assert await ledger.whole() == before


async def test_a_run_with_a_started_call_waits_for_its_lease(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(a_commit(run, 1, calls=(a_call(ledger.tool, state=CallState.STARTED),)))

    assert await ledger.journal.release(run, "a1") == ()
    assert (await ledger.run(run.run_id))["state"] == "RUNNING"


async def test_a_release_sees_the_call_that_a_commit_under_way_starts(ledger: Ledger, pool: asyncpg.Pool) -> None:
    """In one statement it would look at the calls as they were before it waited for the run's row."""
    run = await ledger.running()
    committing = await pool.acquire()
    transaction = committing.transaction()
    await transaction.start()
    late = journal_over(OneConnection(committing))
    await late.commit(a_commit(run, 1, calls=(a_call(ledger.tool, state=CallState.STARTED),)))

    releasing = asyncio.create_task(ledger.journal.release(run, "a1"))
    await until_blocked(pool)
    await transaction.commit()
    await pool.release(committing)
    async with asyncio.timeout(5):
        events = await releasing

    assert events == ()
    assert (await ledger.run(run.run_id))["state"] == "RUNNING"


async def test_a_run_whose_calls_are_planned_or_done_is_released(ledger: Ledger) -> None:
    run = await ledger.running()
    calls = (a_call(ledger.tool), a_call(ledger.tool, call_idx=1, state=CallState.DONE, result="x"))
    await ledger.journal.commit(a_commit(run, 1, calls=calls))

    assert len(await ledger.journal.release(run, "a1")) == 1


async def test_a_run_without_progress_is_given_up_after_several_attempts(ledger: Ledger) -> None:
    turn = await ledger.queued()
    for _ in range(MAX_ATTEMPTS - 1):
        (event,) = await ledger.journal.release((await ledger.claimed()).run, "a1")
        assert event.type is EventType.RUN_REQUEUED

    (last,) = await ledger.journal.release((await ledger.claimed()).run, "a1")

    row = await ledger.run(turn.run_id)
    assert (last.type, last.payload["code"]) == (EventType.RUN_DEAD, "run_dead")
    assert (row["state"], row["failure"]["code"]) == ("DEAD", "run_dead")
    assert row["ended_at"] is not None
    assert await ledger.journal.claim(offer()) is None


async def test_a_run_that_no_slot_took_is_not_counted_as_an_attempt(ledger: Ledger) -> None:
    turn = await ledger.queued()
    for _ in range(MAX_ATTEMPTS * 2):
        (event,) = await ledger.journal.release((await ledger.claimed()).run, "a1", untaken=True)
        assert (event.type, event.payload) == (EventType.RUN_REQUEUED, {"reason": "untaken"})

    assert (await ledger.run(turn.run_id))["attempts"] == 0
    assert (await ledger.journal.events_after(turn.run_id, 1))[-1] == event


async def test_a_commit_starts_the_count_of_attempts_anew(ledger: Ledger) -> None:
    await ledger.queued()
    for commit_no in range(1, MAX_ATTEMPTS * 2):
        run = (await ledger.claimed()).run
        await ledger.journal.commit(a_commit(run, commit_no))

        (event,) = await ledger.journal.release(run, "a1")

        assert event.type is EventType.RUN_REQUEUED


# --- sweep


async def test_a_run_that_lost_its_lease_goes_back_to_the_queue(ledger: Ledger) -> None:
    lost, kept = await ledger.running("w1/0", "a1"), await ledger.running("w2/0", "a2")
    await ledger.run_out(lost.run_id)

    (event,) = await ledger.journal.sweep_leases()

    row = await ledger.run(lost.run_id)
    assert (event.run_id, event.type, event.payload) == (lost.run_id, EventType.RUN_REQUEUED, {"reason": "lease_lost"})
    assert (row["state"], row["owner"], row["attachment"], row["lease_until"]) == ("QUEUED", None, None, None)
    assert row["epoch"] == lost.epoch + 1
    assert (await ledger.run(kept.run_id))["state"] == "RUNNING"
    assert await ledger.journal.events_after(lost.run_id, 1) == (event,)


async def test_a_run_that_lost_its_lease_with_a_started_call_is_not_tried_again(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(a_commit(run, 1, calls=(a_call(ledger.tool, state=CallState.STARTED),)))
    await ledger.run_out(run.run_id)

    (event,) = await ledger.journal.sweep_leases()

    row = await ledger.run(run.run_id)
    assert (event.type, event.payload["code"]) == (EventType.RUN_FAILED, "worker_lost")
    assert (row["state"], row["failure"]["code"]) == ("FAILED", "worker_lost")
    assert row["ended_at"] is not None


async def test_a_run_that_loses_its_lease_again_and_again_is_given_up(ledger: Ledger) -> None:
    await ledger.queued()
    seen = []
    for _ in range(MAX_ATTEMPTS):
        run = (await ledger.claimed()).run
        await ledger.run_out(run.run_id)
        seen += [event.type for event in await ledger.journal.sweep_leases()]

    assert seen == [EventType.RUN_REQUEUED] * (MAX_ATTEMPTS - 1) + [EventType.RUN_DEAD]


async def test_two_sweepers_take_turns(ledger: Ledger) -> None:
    runs = {(await ledger.running(f"w{n}/0", f"a{n}")).run_id for n in range(10)}
    for run_id in runs:
        await ledger.run_out(run_id)

    swept = await asyncio.gather(*(ledger.journal.sweep_leases() for _ in range(4)))
    swept.append(await ledger.journal.sweep_leases())

    assert sorted(event.run_id for events in swept for event in events) == sorted(runs)


async def test_a_run_that_is_being_committed_to_is_not_swept(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.run_out(run.run_id)

    async with ledger.pool.acquire() as owner, owner.transaction():
        await owner.execute("select 1 from runs where id = $1 for update", run.run_id)
        async with asyncio.timeout(5):
            assert await ledger.journal.sweep_leases() == ()


async def test_a_run_queued_past_its_turns_deadline_expires(ledger: Ledger) -> None:
    late = await ledger.queued(deadline=timedelta(seconds=-1))
    await ledger.queued()

    (event,) = await ledger.journal.sweep_deadlines()

    row = await ledger.run(late.run_id)
    assert (event.run_id, event.type) == (late.run_id, EventType.RUN_EXPIRED)
    assert (row["state"], row["failure"]["code"], row["epoch"]) == ("EXPIRED", "run_expired", 1)
    assert row["ended_at"] is not None
    assert await ledger.journal.sweep_deadlines() == ()


async def test_a_running_run_is_not_expired_by_its_deadline(ledger: Ledger) -> None:
    turn = await ledger.queued(deadline=timedelta(minutes=1))
    await ledger.claimed()
    await ledger.pool.execute("update runs set deadline = now() - interval '1 hour' where id = $1", turn.run_id)

    assert await ledger.journal.sweep_deadlines() == ()


async def test_a_run_that_was_started_once_is_finished_after_its_deadline(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.release((await ledger.claimed()).run, "a1")
    await ledger.pool.execute("update runs set deadline = now() - interval '1 hour' where id = $1", turn.run_id)

    assert await ledger.journal.sweep_deadlines() == ()
    assert (await ledger.claimed()).run.run_id == turn.run_id


async def test_a_question_that_nobody_answers_expires(ledger: Ledger) -> None:
    brief = ledger.with_journal(journal_over(ledger.pool, clarification_wait=timedelta(seconds=-1)))
    turn = await brief.queued()
    await brief.journal.commit(waiting((await brief.claimed()).run))

    (event,) = await brief.journal.sweep_deadlines()

    row = await brief.run(turn.run_id)
    assert event.type is EventType.RUN_EXPIRED
    assert (row["state"], row["waiting_for"], row["waiting_until"]) == ("EXPIRED", None, None)
    second = await brief.journal.accept_run(ALICE, turn.session_id, brief.template, a_turn())
    assert second.run_id != turn.run_id
