"""Accepting: what a client sends is recorded whole before anything is answered (durability.md §3)."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.errors import SessionBusy, SessionNotFound, TranscriptTooLarge
from maruntime.ids import new_session_id
from maruntime.testing.builders import assistant, completing, user, waiting
from tests.integration.orchestrator.ledger import (
    ALICE,
    ALICE_ELSEWHERE,
    BOB,
    TRANSCRIPT_LIMIT,
    Ledger,
    OneConnection,
    a_turn,
    journal_over,
    offer,
    until_blocked,
)


async def test_a_first_message_opens_session_run_turn_message_and_event_in_one_go(ledger: Ledger) -> None:
    turn = await ledger.journal.accept_session(ALICE, ledger.template, a_turn(user("Hi"), temperature=0.5))

    session = await ledger.pool.fetchrow("select * from sessions where id = $1", turn.session_id)
    run = await ledger.run(turn.run_id)
    assert (session["tenant_id"], session["principal_id"], session["closed_at"]) == ("default", "alice", None)
    assert (run["state"], run["epoch"], run["commit_no"], run["last_seq"]) == ("QUEUED", 0, 0, 1)
    assert (run["turn_id"], run["llm_endpoint"], run["attempts"]) == (turn.id, "main", 0)
    assert run["context"] == {"llm_parameters": {"temperature": 0.5}, "trace": {}}
    assert (await ledger.turn(turn.id))["run_id"] == turn.run_id
    assert await ledger.messages(turn.session_id) == [("user", "Hi")]
    assert await ledger.events(turn.run_id) == [(1, 0, "RunAccepted")]
    assert (turn.first_seq, turn.epoch) == (0, 0)
    assert turn.deadline == run["deadline"] == (await ledger.turn(turn.id))["deadline"]


async def test_a_history_is_kept_in_its_order_and_form(ledger: Ledger) -> None:
    call = ToolCallRef(id="c1", function=FunctionCall(name="look", arguments='{"at": "null"}'))
    history = (
        Message(role=Role.SYSTEM, content="Be brief"),
        user("Look"),
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, content="seen", tool_call_id="c1"),
        Message(role=Role.USER, content=[{"type": "text", "text": "And?"}], name="ann"),
    )
    await ledger.queued(ALICE, *history)

    snapshot = await ledger.journal.snapshot((await ledger.claimed()).run)

    assert snapshot.transcript == history


async def test_nothing_of_a_message_over_the_limit_is_stored(ledger: Ledger) -> None:
    with pytest.raises(TranscriptTooLarge):
        await ledger.queued(ALICE, user("x" * TRANSCRIPT_LIMIT))

    assert await ledger.count("sessions") == 0


async def test_a_session_goes_on_with_another_run_after_the_first_has_ended(ledger: Ledger) -> None:
    first = await ledger.queued()
    await ledger.journal.commit(completing((await ledger.claimed()).run, text="Hello"))

    second = await ledger.journal.accept_run(ALICE, first.session_id, ledger.template, a_turn(user("More")))

    assert second.run_id != first.run_id
    assert (await ledger.run(second.run_id))["state"] == "QUEUED"
    assert await ledger.events(second.run_id) == [(1, 0, "RunAccepted")]
    assert await ledger.messages(first.session_id) == [("user", "Hi"), ("assistant", "Hello"), ("user", "More")]


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "WAITING"])
async def test_a_session_with_an_active_run_is_busy(ledger: Ledger, state: str) -> None:
    turn = await ledger.queued()
    if state != "QUEUED":
        claim = await ledger.claimed()
        if state == "WAITING":
            await ledger.journal.commit(waiting(claim.run))
    before = await ledger.whole()

    with pytest.raises(SessionBusy):
        await ledger.journal.accept_run(ALICE, turn.session_id, ledger.template, a_turn())

    assert await ledger.whole() == before


async def test_of_messages_sent_at_once_exactly_one_is_accepted(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(completing((await ledger.claimed()).run))

    answers = await asyncio.gather(
        *(ledger.journal.accept_run(ALICE, turn.session_id, ledger.template, a_turn()) for _ in range(6)),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(exc) for exc in refused] == [SessionBusy] * 5
    assert await ledger.count("runs") == 2
    assert await ledger.count("session_messages") == 3


@pytest.mark.parametrize("stranger", [BOB, ALICE_ELSEWHERE])
async def test_another_principal_or_tenant_cannot_continue_answer_or_close(ledger: Ledger, stranger) -> None:
    ended = await ledger.queued()
    await ledger.journal.commit(completing((await ledger.claimed()).run))
    asking = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run))
    before = await ledger.whole()

    with pytest.raises(SessionNotFound):
        await ledger.journal.accept_run(stranger, ended.session_id, ledger.template, a_turn())
    with pytest.raises(SessionNotFound):
        await ledger.journal.accept_answer(stranger, asking.session_id, a_turn())
    with pytest.raises(SessionNotFound):
        await ledger.journal.close_session(stranger, asking.session_id)

    assert await ledger.whole() == before


async def test_a_session_that_is_not_there_cannot_be_continued(ledger: Ledger) -> None:
    with pytest.raises(SessionNotFound):
        await ledger.journal.accept_run(ALICE, new_session_id(), ledger.template, a_turn())


async def test_the_limit_counts_the_whole_transcript_of_the_session(ledger: Ledger) -> None:
    turn = await ledger.queued(ALICE, user("x" * (TRANSCRIPT_LIMIT // 2)))
    await ledger.journal.commit(completing((await ledger.claimed()).run, text="y" * (TRANSCRIPT_LIMIT // 4)))

    with pytest.raises(TranscriptTooLarge):
        await ledger.journal.accept_run(
            ALICE, turn.session_id, ledger.template, a_turn(user("z" * (TRANSCRIPT_LIMIT // 4)))
        )
    await ledger.journal.accept_run(ALICE, turn.session_id, ledger.template, a_turn(user("short")))

    assert await ledger.count("runs") == 2


async def test_an_answer_is_a_new_turn_of_the_run_that_asked(ledger: Ledger) -> None:
    asked = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run, question="Which?"))

    turn = await ledger.journal.accept_answer(ALICE, asked.session_id, a_turn(user("That one")))

    run = await ledger.run(asked.run_id)
    assert (turn.run_id, turn.epoch, turn.first_seq) == (asked.run_id, 1, 2)
    assert (run["state"], run["waiting_for"], run["waiting_until"], run["turn_id"]) == ("QUEUED", None, None, turn.id)
    assert await ledger.messages(asked.session_id) == [("user", "Hi"), ("assistant", "Which?"), ("user", "That one")]
    assert (await ledger.events(asked.run_id))[-1] == (3, 1, "RunResumed")


async def test_an_answer_to_a_run_that_asked_nothing_is_refused(ledger: Ledger) -> None:
    turn = await ledger.queued()

    with pytest.raises(SessionBusy):
        await ledger.journal.accept_answer(ALICE, turn.session_id, a_turn())


async def test_an_answer_over_the_limit_leaves_the_question_open(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run))

    with pytest.raises(TranscriptTooLarge):
        await ledger.journal.accept_answer(ALICE, turn.session_id, a_turn(user("x" * TRANSCRIPT_LIMIT)))

    assert (await ledger.run(turn.run_id))["state"] == "WAITING"


async def test_of_two_answers_at_once_one_is_taken(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run))

    answers = await asyncio.gather(
        *(ledger.journal.accept_answer(ALICE, turn.session_id, a_turn(user(text))) for text in ("this", "that")),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["SessionBusy", "Turn"]
    assert len(await ledger.messages(turn.session_id)) == 3
    assert await ledger.count("turns") == 2


async def test_an_answered_run_keeps_its_place_before_later_work(ledger: Ledger) -> None:
    asked = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run))
    await ledger.queued()
    await ledger.journal.accept_answer(ALICE, asked.session_id, a_turn())

    claim = await ledger.claimed()

    assert claim.run.run_id == asked.run_id
    assert claim.run.epoch == 2


async def test_closing_cancels_the_active_run_and_fences_its_owner(ledger: Ledger) -> None:
    turn = await ledger.queued()
    run = (await ledger.claimed()).run

    events = await ledger.journal.close_session(ALICE, turn.session_id)

    row = await ledger.run(turn.run_id)
    assert [(event.seq, event.epoch, event.type.value) for event in events] == [(2, 2, "RunCancelled")]
    assert (row["state"], row["owner"], row["lease_until"], row["epoch"]) == ("CANCELLED", None, None, 2)
    assert row["failure"]["code"] == "run_cancelled"
    assert (await ledger.journal.commit(completing(run))).verdict == "FENCED"
    assert await ledger.messages(turn.session_id) == [("user", "Hi")]
    assert await ledger.journal.renew([(run, "a1")]) == set()


async def test_closing_cancels_a_run_that_waits_for_an_answer(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(waiting((await ledger.claimed()).run))

    await ledger.journal.close_session(ALICE, turn.session_id)

    row = await ledger.run(turn.run_id)
    assert (row["state"], row["waiting_for"], row["waiting_until"]) == ("CANCELLED", None, None)


async def test_closing_twice_changes_nothing(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.close_session(ALICE, turn.session_id)
    before = await ledger.whole()

    assert await ledger.journal.close_session(ALICE, turn.session_id) == ()
    assert await ledger.whole() == before


async def test_a_closed_session_takes_no_message(ledger: Ledger) -> None:
    turn = await ledger.queued()
    await ledger.journal.close_session(ALICE, turn.session_id)

    with pytest.raises(SessionNotFound):
        await ledger.journal.accept_run(ALICE, turn.session_id, ledger.template, a_turn())


async def test_a_run_that_is_accepted_while_its_session_is_closed_does_not_outlive_it(
    ledger: Ledger, pool: asyncpg.Pool
) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(completing((await ledger.claimed()).run))
    accepting = await pool.acquire()
    transaction = accepting.transaction()
    await transaction.start()
    late = journal_over(OneConnection(accepting))
    await late.accept_run(ALICE, turn.session_id, ledger.template, a_turn())

    closing = asyncio.create_task(ledger.journal.close_session(ALICE, turn.session_id))
    await until_blocked(pool)
    await transaction.commit()
    await pool.release(accepting)
    async with asyncio.timeout(5):
        events = await closing

    states = [row["state"] for row in await pool.fetch("select state from runs order by accepted_at")]
    assert states == ["COMPLETED", "CANCELLED"]
    assert [event.type.value for event in events] == ["RunCancelled"]


async def test_a_turn_takes_its_deadline_from_the_database(ledger: Ledger) -> None:
    before = await ledger.pool.fetchval("select clock_timestamp()")

    turn = await ledger.queued(deadline=timedelta(seconds=60))

    assert timedelta(seconds=59) < turn.deadline - before < timedelta(seconds=65)


async def test_a_whole_response_is_noted_as_delivered(ledger: Ledger) -> None:
    turn = await ledger.queued(ALICE, user(), assistant(), user())

    await ledger.journal.delivered(turn.id)

    assert (await ledger.turn(turn.id))["delivered_at"] is not None
    assert (await ledger.journal.claim(offer())) is not None
