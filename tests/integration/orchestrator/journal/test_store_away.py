"""Postgres away is one error, told at once (durability.md §6)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from maruntime.domain.run import RunRef
from maruntime.errors import StoreUnavailable
from maruntime.testing.builders import a_commit, a_template
from orchestrator.journal.journal import Journal
from orchestrator.persistence.engine import opened_pool
from orchestrator.settings import DatabaseSettings
from supervisor.embedded_postgres import EmbeddedPostgres
from tests.integration.orchestrator.ledger import ALICE, Ledger, a_turn, journal_over, offer

RUN = RunRef("run_1", 1)

CALLS: dict[str, Callable[[Journal], Awaitable[Any]]] = {
    "accept_run": lambda journal: journal.accept_run(ALICE, "sess_1", a_template(), a_turn()),
    "accept_session": lambda journal: journal.accept_session(ALICE, a_template(), a_turn()),
    "accept_answer": lambda journal: journal.accept_answer(ALICE, "sess_1", a_turn()),
    "claim": lambda journal: journal.claim(offer()),
    "snapshot": lambda journal: journal.snapshot(RUN),
    "renew": lambda journal: journal.renew([(RUN, "a1")]),
    "reattach": lambda journal: journal.reattach(RUN, owner="w1/0", attachment="a1"),
    "release": lambda journal: journal.release(RUN, "a1"),
    "commit": lambda journal: journal.commit(a_commit(RUN)),
    "sweep_leases": lambda journal: journal.sweep_leases(),
    "sweep_deadlines": lambda journal: journal.sweep_deadlines(),
    "close_session": lambda journal: journal.close_session(ALICE, "sess_1"),
    "events_after": lambda journal: journal.events_after("run_1", 0),
    "last_seqs": lambda journal: journal.last_seqs(["run_1"]),
    "delivered": lambda journal: journal.delivered("turn_1"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_every_call_says_that_the_store_is_away_when_the_pool_is_closed(
    pool: "asyncpg.Pool[Any]", name: str
) -> None:
    pool.terminate()

    with pytest.raises(StoreUnavailable):
        await CALLS[name](journal_over(pool))


async def test_a_connection_cut_under_a_statement_is_the_store_being_away(ledger: Ledger) -> None:
    run = await ledger.running()
    async with ledger.pool.acquire() as other, other.transaction():
        await other.execute("select 1 from runs where id = $1 for update", run.run_id)
        waiting = asyncio.create_task(ledger.journal.commit(a_commit(run)))
        async with asyncio.timeout(5):
            while not await ledger.pool.fetchval(
                "select bool_or(pg_terminate_backend(pid)) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.01)

        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(5):
                await waiting

    assert (await ledger.journal.commit(a_commit(run))).verdict == "STORED"


async def test_a_stopped_server_is_the_store_being_away_and_the_same_pool_finds_it_again(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", durable=False)
    await server.start()
    try:
        async with opened_pool(server.url(), DatabaseSettings()) as pool:
            journal = journal_over(pool)
            await server.stop()

            with pytest.raises(StoreUnavailable):
                await journal.claim(offer())
            with pytest.raises(StoreUnavailable):
                await journal.commit(a_commit(RUN))
            await server.start()

            assert await pool.fetchval("select 1") == 1
    finally:
        await server.stop()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreUnavailable) as refused:
        async with opened_pool("postgresql://u:secret@127.0.0.1:1/db", DatabaseSettings()):
            pass

    assert "127.0.0.1:1/db" in refused.value.message
    assert "secret" not in refused.value.message
