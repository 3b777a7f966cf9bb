"""Commits: the fence, and the rows of T1 to T4 (durability.md §3)."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from maruntime.domain.commit import Artifact, CallState, End, EndKind, Verdict
from maruntime.domain.event import EventType
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.run import RunRef, Usage
from maruntime.ids import new_id, new_run_id
from maruntime.testing.builders import (
    a_call,
    a_commit,
    an_event,
    assistant,
    completing,
    failing,
    releasing,
    user,
    waiting,
)
from tests.integration.orchestrator.ledger import ALICE, Ledger, a_turn

FULL = {
    "messages": (assistant("Working"),),
    "events": (an_event(step=1), an_event(EventType.TOOL_CALL_STARTED, step=1)),
    "usage": Usage(1, 1, 1),
}


# --- the fence


@pytest.mark.parametrize("epoch", [0, 2, 100])
async def test_a_commit_of_another_epoch_is_fenced_and_writes_nothing(ledger: Ledger, epoch: int) -> None:
    run = await ledger.running()
    before = await ledger.whole()

    stored = await ledger.journal.commit(a_commit(RunRef(run.run_id, epoch), 1, **FULL))

    assert stored.verdict is Verdict.FENCED
    assert stored.events == ()
    assert await ledger.whole() == before


async def test_a_commit_of_a_run_that_is_not_there_is_fenced(ledger: Ledger) -> None:
    stored = await ledger.journal.commit(a_commit(RunRef(new_run_id(), 1), 1))

    assert stored.verdict is Verdict.FENCED


async def test_a_repeated_commit_is_stored_and_written_once(ledger: Ledger) -> None:
    run = await ledger.running()
    commit = a_commit(
        run, 1, calls=(a_call(ledger.tool),), artifacts=(Artifact(new_id("art"), "a", "text/plain", b"x"),), **FULL
    )
    first = await ledger.journal.commit(commit)
    before = await ledger.whole()

    again = await ledger.journal.commit(commit)

    assert (again.verdict, again.last_seq, again.events) == (Verdict.STORED, first.last_seq, ())
    assert await ledger.whole() == before


async def test_the_same_commit_sent_many_times_at_once_is_written_once(ledger: Ledger) -> None:
    run = await ledger.running()
    commit = a_commit(run, 1, **FULL)

    answers = await asyncio.gather(*(ledger.journal.commit(commit) for _ in range(10)))

    assert {answer.verdict for answer in answers} == {Verdict.STORED}
    assert sorted(len(answer.events) for answer in answers) == [0] * 9 + [2]
    assert [seq for seq, _, _ in await ledger.events(run.run_id)] == [1, 2, 3]


async def test_an_older_commit_that_arrives_late_is_stored_already(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(a_commit(run, 1))
    await ledger.journal.commit(a_commit(run, 2))
    before = await ledger.whole()

    stored = await ledger.journal.commit(a_commit(run, 1, **FULL))

    assert stored.verdict is Verdict.STORED
    assert await ledger.whole() == before


@pytest.mark.parametrize("commit_no", [2, 3, 50])
async def test_a_commit_that_leaves_a_gap_is_fenced(ledger: Ledger, commit_no: int) -> None:
    run = await ledger.running()
    before = await ledger.whole()

    stored = await ledger.journal.commit(a_commit(run, commit_no, **FULL))

    assert stored.verdict is Verdict.FENCED
    assert await ledger.whole() == before


@pytest.mark.parametrize("end", [completing, failing, waiting, releasing])
async def test_after_the_end_the_end_is_stored_and_anything_later_is_fenced(ledger: Ledger, end) -> None:
    run = await ledger.running()
    await ledger.journal.commit(end(run, 1))
    before = await ledger.whole()

    assert (await ledger.journal.commit(end(run, 1))).verdict is Verdict.STORED
    assert (await ledger.journal.commit(a_commit(run, 2, **FULL))).verdict is Verdict.FENCED
    assert await ledger.whole() == before


async def test_an_old_owner_is_fenced_as_soon_as_another_one_claims(ledger: Ledger) -> None:
    run = await ledger.running("w1/0", "a1")
    await ledger.journal.commit(a_commit(run, 1))
    await ledger.run_out(run.run_id)
    await ledger.journal.sweep_leases()
    new = (await ledger.claimed("w2/0", "a2")).run

    late = await ledger.journal.commit(a_commit(run, 2, **FULL))
    mine = await ledger.journal.commit(completing(new, 2))

    assert (late.verdict, mine.verdict) == (Verdict.FENCED, Verdict.STORED)
    assert [epoch for _, epoch, _ in await ledger.events(run.run_id)] == [0, 2, 3]


async def test_an_owner_whose_lease_ran_out_may_commit_until_somebody_takes_over(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.run_out(run.run_id)

    stored = await ledger.journal.commit(a_commit(run, 1))

    assert stored.verdict is Verdict.STORED
    assert await ledger.journal.sweep_leases() == ()


# --- what is written


async def test_events_get_dense_numbers_in_their_order(ledger: Ledger) -> None:
    run = await ledger.running()

    first = await ledger.journal.commit(a_commit(run, 1, events=(an_event(n=1), an_event(n=2))))
    empty = await ledger.journal.commit(a_commit(run, 2))
    last = await ledger.journal.commit(a_commit(run, 3, events=(an_event(n=3),)))

    assert [(event.seq, event.payload["n"]) for event in (*first.events, *last.events)] == [(2, 1), (3, 2), (4, 3)]
    assert (first.last_seq, empty.last_seq, last.last_seq) == (3, 3, 4)
    assert [seq for seq, _, _ in await ledger.events(run.run_id)] == [1, 2, 3, 4]


async def test_what_is_told_is_what_stands_in_the_store(ledger: Ledger) -> None:
    run = await ledger.running()

    told = (await ledger.journal.commit(completing(run, usage=Usage(3, 2, 1)))).events

    assert await ledger.journal.events_after(run.run_id, 1) == told


async def test_t1_keeps_the_text_the_calls_the_counters_and_the_lease(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.run_out(run.run_id)
    ref = ToolCallRef(id="call_1_0", function=FunctionCall(name="look", arguments="{}"))
    said = Message(role=Role.ASSISTANT, tool_calls=(ref,))

    await ledger.journal.commit(
        a_commit(
            run,
            1,
            step_no=1,
            counters={"iterations": 1},
            messages=(said,),
            calls=(a_call(ledger.tool), a_call(ledger.tool, call_idx=1, state=CallState.STARTED)),
        )
    )

    row = await ledger.run(run.run_id)
    assert (row["state"], row["commit_no"], row["step_no"], row["attempts"]) == ("RUNNING", 1, 1, 0)
    assert row["counters"] == {"iterations": 1}
    assert row["lease_until"] > await ledger.pool.fetchval("select clock_timestamp()")
    planned, started = await ledger.calls(run.run_id)
    assert (planned["state"], planned["tries"], planned["started_at"]) == ("planned", 0, None)
    assert (started["state"], started["tries"], started["done_at"]) == ("started", 1, None)
    assert started["started_at"] is not None
    assert (await ledger.journal.snapshot(run)).transcript == (user(), said)


async def test_t3_keeps_the_result_and_the_tool_message(ledger: Ledger) -> None:
    run = await ledger.running()
    artifact = Artifact(new_id("art"), "report.md", "text/markdown", b"\x00# Report")
    await ledger.journal.commit(a_commit(run, 1, calls=(a_call(ledger.tool, state=CallState.STARTED),)))

    await ledger.journal.commit(
        a_commit(
            run,
            2,
            step_no=1,
            messages=(Message(role=Role.TOOL, content="seen", tool_call_id="call_1_0"),),
            calls=(a_call(ledger.tool, state=CallState.DONE, result="seen", artifact_id=artifact.id),),
            artifacts=(artifact,),
        )
    )

    (call,) = await ledger.calls(run.run_id)
    assert (call["state"], call["result"], call["tries"], call["done_epoch"]) == ("done", "seen", 1, 1)
    assert call["artifact_id"] == artifact.id
    assert call["started_at"] <= call["done_at"]
    kept = await ledger.pool.fetchrow("select * from artifacts")
    assert (kept["id"], kept["name"], kept["media_type"], kept["content"]) == (
        artifact.id,
        "report.md",
        "text/markdown",
        b"\x00# Report",
    )
    assert (kept["run_id"], kept["session_id"]) == (run.run_id, (await ledger.run(run.run_id))["session_id"])
    assert (await ledger.journal.snapshot(run)).open_calls == ()


@pytest.mark.parametrize("state", list(CallState))
async def test_a_call_that_is_done_never_moves_back(ledger: Ledger, state: CallState) -> None:
    run = await ledger.running()
    done = a_call(ledger.tool, state=CallState.DONE, result="first")
    await ledger.journal.commit(a_commit(run, 1, calls=(done,)))
    before = await ledger.calls(run.run_id)

    await ledger.journal.commit(a_commit(run, 2, calls=(dataclasses.replace(done, state=state, result="second"),)))

    assert await ledger.calls(run.run_id) == before


async def test_a_step_of_a_late_tool_result_does_not_move_the_run_back(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(a_commit(run, 1, step_no=4))

    await ledger.journal.commit(a_commit(run, 2, step_no=3))

    assert (await ledger.run(run.run_id))["step_no"] == 4


async def test_messages_of_commits_stand_in_their_order(ledger: Ledger) -> None:
    turn = await ledger.queued(ALICE, user("0"))
    run = (await ledger.claimed()).run

    await ledger.journal.commit(a_commit(run, 1, messages=tuple(assistant(str(n)) for n in range(1, 30))))
    await ledger.journal.commit(a_commit(run, 2, messages=(assistant("30"),)))

    assert [content for _, content in await ledger.messages(turn.session_id)] == [str(n) for n in range(31)]


async def test_usage_adds_up_in_the_turn_and_stands_in_the_event_that_ends_it(ledger: Ledger) -> None:
    turn = await ledger.queued()
    run = (await ledger.claimed()).run
    await ledger.journal.commit(a_commit(run, 1, usage=Usage(10, 5, 2)))

    stored = await ledger.journal.commit(completing(run, 2, usage=Usage(20, 7, 3)))

    row = await ledger.turn(turn.id)
    assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (30, 12, 5)
    assert stored.events[-1].payload["usage"] == {"prompt_tokens": 30, "completion_tokens": 12, "cached_tokens": 5}
    (last,) = await ledger.journal.events_after(run.run_id, 1)
    assert last.payload == stored.events[-1].payload


async def test_usage_after_an_answer_belongs_to_the_new_turn(ledger: Ledger) -> None:
    first = await ledger.queued()
    run = (await ledger.claimed()).run
    await ledger.journal.commit(dataclasses.replace(waiting(run), usage=Usage(10, 5, 2)))
    second = await ledger.journal.accept_answer(ALICE, first.session_id, a_turn())

    stored = await ledger.journal.commit(completing((await ledger.claimed()).run, 2, usage=Usage(1, 1, 0)))

    assert stored.events[-1].payload["usage"]["prompt_tokens"] == 1
    assert (await ledger.turn(first.id))["prompt_tokens"] == 10
    assert (await ledger.turn(second.id))["prompt_tokens"] == 1


async def test_only_the_event_that_ends_the_turn_carries_usage(ledger: Ledger) -> None:
    run = await ledger.running()

    stored = await ledger.journal.commit(a_commit(run, 1, events=(an_event(step=1),), usage=Usage(9, 9, 9)))

    assert stored.events[0].payload == {"step": 1}
    assert (await ledger.journal.events_after(run.run_id, 1))[0].payload == {"step": 1}


async def test_t4_ends_the_run_and_frees_its_owner(ledger: Ledger) -> None:
    run = await ledger.running()

    await ledger.journal.commit(completing(run))

    row = await ledger.run(run.run_id)
    assert (row["state"], row["owner"], row["attachment"], row["lease_until"]) == ("COMPLETED", None, None, None)
    assert row["ended_at"] is not None
    assert (row["epoch"], row["last_owner"], row["failure"]) == (1, "w1/0", None)


async def test_a_failure_is_kept_with_the_run(ledger: Ledger) -> None:
    run = await ledger.running()

    await ledger.journal.commit(failing(run, code="llm_failed"))

    row = await ledger.run(run.run_id)
    assert (row["state"], row["failure"]) == ("FAILED", {"code": "llm_failed", "message": "It failed."})
    assert row["ended_at"] is not None


async def test_a_question_parks_the_run_for_as_long_as_a_person_may_take(ledger: Ledger) -> None:
    run = await ledger.running()

    await ledger.journal.commit(waiting(run))

    row = await ledger.run(run.run_id)
    now = await ledger.pool.fetchval("select clock_timestamp()")
    assert (row["state"], row["waiting_for"], row["owner"]) == ("WAITING", "clarification", None)
    assert timedelta(days=6, hours=23) < row["waiting_until"] - now <= timedelta(days=7)
    assert row["ended_at"] is None


async def test_a_run_given_back_by_a_draining_worker_keeps_its_place_and_its_steps(ledger: Ledger) -> None:
    first = await ledger.queued()
    await ledger.queued()
    run = (await ledger.claimed()).run
    await ledger.journal.commit(a_commit(run, 1, end=End(EndKind.RELEASED), counters={"iterations": 3}))

    again = await ledger.claimed("w2/0", "a2")

    assert again.run == RunRef(first.run_id, 2)
    snapshot = await ledger.journal.snapshot(again.run)
    assert (snapshot.last_commit, snapshot.counters) == (1, {"iterations": 3})


@pytest.mark.parametrize(
    "poison",
    [
        {"messages": (assistant("a\0b"),)},
        {"usage": Usage(prompt_tokens=2**70)},
        {"calls": (a_call("toolv_that_is_not_there"),)},
    ],
    ids=["a NUL", "a number over 64 bits", "an unknown tool version"],
)
async def test_what_no_table_can_hold_is_not_taken_for_an_outage_that_passes(ledger: Ledger, poison) -> None:
    run = await ledger.running()
    before = await ledger.whole()

    stored = await ledger.journal.commit(a_commit(run, 1, **poison))

    assert stored.verdict is Verdict.FENCED
    assert await ledger.whole() == before


async def test_events_are_read_in_pages(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.commit(a_commit(run, 1, events=tuple(an_event(n=n) for n in range(700))))

    page = await ledger.journal.events_after(run.run_id, 0)
    rest = await ledger.journal.events_after(run.run_id, page[-1].seq)

    assert [event.seq for event in page] == list(range(1, 501))
    assert [event.seq for event in rest] == list(range(501, 702))
    assert await ledger.journal.events_after(run.run_id, 701) == ()
    assert await ledger.journal.last_seqs([run.run_id, "run_unknown"]) == {run.run_id: 701}
