"""A journal at hand, and what stands in its tables."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import asyncpg

from maruntime.domain.message import Message
from maruntime.domain.principal import Principal
from maruntime.domain.run import RunRef, Turn
from maruntime.domain.template import TemplateVersion
from maruntime.testing.builders import a_principal, user
from orchestrator.journal.journal import Claim, Journal, NewTurn, SlotOffer

ALICE = a_principal("alice")
BOB = a_principal("bob")
ALICE_ELSEWHERE = a_principal("alice", tenant="other")

LEASE = timedelta(seconds=15)
MAX_ATTEMPTS = 3
TRANSCRIPT_LIMIT = 10_000


def journal_over(
    pool: "asyncpg.Pool[Any]", *, lease: timedelta = LEASE, clarification_wait: timedelta = timedelta(days=7)
) -> Journal:
    """A journal with few attempts and a small limit."""
    return Journal(
        pool,
        lease=lease,
        max_attempts=MAX_ATTEMPTS,
        clarification_wait=clarification_wait,
        transcript_limit=TRANSCRIPT_LIMIT,
    )


def a_turn(*messages: Message, deadline: timedelta = timedelta(minutes=5), **llm_parameters: Any) -> NewTurn:
    """What a caller sends."""
    return NewTurn(messages or (user(),), deadline, {"llm_parameters": llm_parameters, "trace": {}})


def offer(
    instance: str = "w1/0", attachment: str = "a1", *, endpoint: str = "main", pinned_to: str | None = None
) -> SlotOffer:
    """One free slot."""
    here = (instance, attachment)
    return SlotOffer({(endpoint, pinned_to): here} if pinned_to else {}, {endpoint: here})


@dataclass(frozen=True)
class Ledger:
    """The journal under test; `tool` is a tool version that calls may name."""

    journal: Journal
    pool: "asyncpg.Pool[Any]"
    template: TemplateVersion
    tool: str

    def at(self, endpoint: str) -> TemplateVersion:
        """The template, with its LLM elsewhere."""
        body = self.template.body
        llm = body.llm.model_copy(update={"endpoint": endpoint})
        return self.template.model_copy(update={"body": body.model_copy(update={"llm": llm})})

    def with_journal(self, journal: Journal) -> "Ledger":
        return replace(self, journal=journal)

    async def queued(self, caller: Principal = ALICE, *messages: Message, **more: Any) -> Turn:
        return await self.journal.accept_session(caller, self.template, a_turn(*messages, **more))

    async def claimed(self, instance: str = "w1/0", attachment: str = "a1") -> Claim:
        claim = await self.journal.claim(offer(instance, attachment))
        assert claim is not None, "there is a run to claim"
        return claim

    async def running(self, instance: str = "w1/0", attachment: str = "a1", caller: Principal = ALICE) -> RunRef:
        """A run that was just claimed."""
        await self.queued(caller)
        return (await self.claimed(instance, attachment)).run

    async def run(self, run_id: str) -> dict[str, Any]:
        return dict(await self.pool.fetchrow("select * from runs where id = $1", run_id) or {})

    async def turn(self, turn_id: str) -> dict[str, Any]:
        return dict(await self.pool.fetchrow("select * from turns where id = $1", turn_id) or {})

    async def messages(self, session_id: str) -> list[tuple[str, Any]]:
        rows = await self.pool.fetch("select * from session_messages where session_id = $1 order by id", session_id)
        return [(row["role"], row["content"]) for row in rows]

    async def events(self, run_id: str) -> list[tuple[int, int, str]]:
        """(seq, epoch, type) of every event."""
        rows = await self.pool.fetch("select * from run_events where run_id = $1 order by seq", run_id)
        return [(row["seq"], row["epoch"], row["type"]) for row in rows]

    async def calls(self, run_id: str) -> list[dict[str, Any]]:
        rows = await self.pool.fetch(
            "select * from tool_executions where run_id = $1 order by step_no, call_idx", run_id
        )
        return [dict(row) for row in rows]

    async def count(self, table: str) -> int:
        return await self.pool.fetchval(f"select count(*) from {table}")

    async def put(self, run_id: str, **values: Any) -> None:
        """Write columns of a run as they are: what no statement of the journal does."""
        names = ", ".join(f"{name} = ${place}" for place, name in enumerate(values, start=2))
        await self.pool.execute(f"update runs set {names} where id = $1", run_id, *values.values())

    async def run_out(self, run_id: str) -> None:
        """Let a run's lease be over."""
        await self.pool.execute("update runs set lease_until = now() - interval '1 second' where id = $1", run_id)

    async def whole(self) -> dict[str, Any]:
        """Every table that the journal writes, to see that nothing was written."""
        return {
            table: [tuple(row) for row in await self.pool.fetch(f"select * from {table} order by 1, 2, 3")]
            for table in ("sessions", "runs", "turns", "session_messages", "run_events", "tool_executions", "artifacts")
        }


class OneConnection:
    """A pool that is one connection, so that a statement stays inside a transaction of the test."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def acquire(self, *, timeout: float) -> Any:
        return self

    async def __aenter__(self) -> Any:
        return self._connection

    async def __aexit__(self, *exc: object) -> None:
        return None


async def until_blocked(pool: "asyncpg.Pool[Any]") -> None:
    """Wait until a statement waits for a lock."""
    async with asyncio.timeout(5):
        while not await pool.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)
