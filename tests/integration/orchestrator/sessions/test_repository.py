"""Sessions and runs as their owners see them; a foreign one is not there."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.commit import Artifact
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.principal import Principal
from maruntime.domain.run import RunState, Usage, WaitingFor
from maruntime.errors import RunNotFound, SessionNotFound
from maruntime.ids import new_id
from maruntime.testing.builders import a_commit, completing, failing, user, waiting
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository
from tests.integration.orchestrator.ledger import ALICE, ALICE_ELSEWHERE, BOB, Ledger, a_turn

Maker = async_sessionmaker[AsyncSession]


async def seen_by(maker: Maker, caller: Principal, method: str, *args, **kwargs):
    async with transaction(maker) as tx:
        return await getattr(SessionRepository(tx, caller), method)(*args, **kwargs)


async def test_a_session_is_seen_with_its_template_and_the_state_of_its_latest_run(
    ledger: Ledger, maker: Maker
) -> None:
    turn = await ledger.queued()

    session = await seen_by(maker, ALICE, "get", turn.session_id)

    assert (session.id, session.template, session.template_version) == (turn.session_id, "assistant", 1)
    assert (session.run_id, session.run_state, session.state) == (turn.run_id, RunState.QUEUED, "QUEUED")


async def test_the_state_follows_the_latest_run(ledger: Ledger, maker: Maker) -> None:
    turn = await ledger.queued()
    await ledger.journal.commit(failing((await ledger.claimed()).run))
    await ledger.journal.accept_run(ALICE, turn.session_id, ledger.template, a_turn())
    await ledger.journal.commit(waiting((await ledger.claimed()).run))

    session = await seen_by(maker, ALICE, "get", turn.session_id)

    assert (session.state, session.waiting_for) == ("WAITING", WaitingFor.CLARIFICATION)


async def test_a_closed_session_is_closed_whatever_its_run_is(ledger: Ledger, maker: Maker) -> None:
    turn = await ledger.queued()
    await ledger.journal.close_session(ALICE, turn.session_id)

    session = await seen_by(maker, ALICE, "get", turn.session_id)

    assert (session.state, session.run_state) == ("CLOSED", RunState.CANCELLED)


@pytest.mark.parametrize("stranger", [BOB, ALICE_ELSEWHERE])
async def test_a_stranger_sees_nothing(ledger: Ledger, maker: Maker, stranger: Principal) -> None:
    turn = await ledger.queued()

    for method, args in (
        ("get", (turn.session_id,)),
        ("latest_run", (turn.session_id,)),
        ("artifacts", (turn.session_id,)),
        ("artifact", (turn.session_id, "art_1")),
    ):
        with pytest.raises(SessionNotFound):
            await seen_by(maker, stranger, method, *args)
    with pytest.raises(SessionNotFound):
        await seen_by(maker, stranger, "transcript", turn.session_id, limit=10, after=0)
    with pytest.raises(RunNotFound):
        await seen_by(maker, stranger, "run", turn.run_id)
    assert await seen_by(maker, stranger, "page", limit=10, after=None) == []


async def test_sessions_come_in_pages_newest_first(ledger: Ledger, maker: Maker) -> None:
    opened = [(await ledger.queued()).session_id for _ in range(5)]
    await ledger.queued(BOB)

    first = await seen_by(maker, ALICE, "page", limit=2, after=None)
    second = await seen_by(maker, ALICE, "page", limit=2, after=first[-1].id)
    last = await seen_by(maker, ALICE, "page", limit=2, after=second[-1].id)

    assert sorted(s.id for s in (*first, *second, *last)) == sorted(opened)
    assert [s.id for s in (*first, *second, *last)] == sorted(opened, reverse=True)
    assert await seen_by(maker, ALICE, "page", limit=2, after=last[-1].id) == []


async def test_only_sessions_at_work_are_active(ledger: Ledger, maker: Maker) -> None:
    await ledger.queued()
    await ledger.journal.commit(completing((await ledger.claimed()).run))
    closed = await ledger.queued()
    await ledger.journal.close_session(ALICE, closed.session_id)
    active = await ledger.queued()

    page = await seen_by(maker, ALICE, "page", limit=10, after=None, only_active=True)

    assert [session.id for session in page] == [active.session_id]


async def test_a_transcript_comes_in_pages_with_places(ledger: Ledger, maker: Maker) -> None:
    call = ToolCallRef(id="c1", function=FunctionCall(name="look", arguments="{}"))
    said = (
        user("Hi"),
        Message(role=Role.ASSISTANT, tool_calls=(call,)),
        Message(role=Role.TOOL, content="seen", tool_call_id="c1"),
        Message(role=Role.USER, content=[{"type": "text", "text": "And?"}], name="ann"),
    )
    turn = await ledger.queued(ALICE, *said)

    first = await seen_by(maker, ALICE, "transcript", turn.session_id, limit=3, after=0)
    rest = await seen_by(maker, ALICE, "transcript", turn.session_id, limit=3, after=first[-1][0])

    assert tuple(message for _, message in (*first, *rest)) == said
    assert (len(first), len(rest)) == (3, 1)


async def test_a_run_is_seen_with_its_usage_and_its_failure(ledger: Ledger, maker: Maker) -> None:
    turn = await ledger.queued()
    run = (await ledger.claimed()).run
    await ledger.journal.commit(a_commit(run, 1, usage=Usage(3, 2, 1), counters={"iterations": 1}))
    await ledger.journal.commit(failing(run, 2, code="llm_failed"))

    seen = await seen_by(maker, ALICE, "run", turn.run_id)

    assert (seen.state, seen.epoch, seen.owner, seen.last_owner) == (RunState.FAILED, 1, None, "w1/0")
    assert (seen.usage, seen.counters, seen.turn_id) == (Usage(3, 2, 1), {}, turn.id)
    assert seen.failure is not None
    assert (seen.failure.code, seen.failure.message) == ("llm_failed", "It failed.")
    assert await seen_by(maker, ALICE, "latest_run", turn.session_id) == seen


async def test_artifacts_are_listed_without_and_read_with_their_content(ledger: Ledger, maker: Maker) -> None:
    turn = await ledger.queued()
    artifact = Artifact(new_id("art"), "r.md", "text/markdown", b"\x00x")
    await ledger.journal.commit(a_commit((await ledger.claimed()).run, 1, artifacts=(artifact,)))

    (listed,) = await seen_by(maker, ALICE, "artifacts", turn.session_id)
    content = await seen_by(maker, ALICE, "artifact", turn.session_id, artifact.id)

    assert (listed["id"], listed["name"], "content" in listed) == (artifact.id, "r.md", False)
    assert content == ("r.md", "text/markdown", b"\x00x")
    assert await seen_by(maker, ALICE, "artifact", turn.session_id, "art_unknown") is None
