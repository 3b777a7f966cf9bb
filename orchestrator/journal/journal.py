"""The record of every run: what is accepted, claimed, committed, renewed, released and swept.

Each method is one hand-written statement (`statements.py`), or two where the
first has to wait for what is under way; no transaction or
lock outlives it. A commit is fenced by `(run, epoch, commit_no)`: a duplicate is
as good as stored, anything else of an old owner is FENCED and writes nothing.
The journal tells nobody; its callers publish what it returns.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import structlog

from maruntime.domain.commit import CallState, Commit, EndKind, Stored, ToolCallRow, Verdict
from maruntime.domain.event import EventType, RunEvent
from maruntime.domain.message import Message
from maruntime.domain.principal import Principal
from maruntime.domain.run import Failure, RunRef, RunState, Turn
from maruntime.domain.template import TemplateVersion
from maruntime.domain.tool import EffectClass
from maruntime.errors import (
    Fenced,
    MaruntimeError,
    SessionBusy,
    SessionNotFound,
    StoreUnavailable,
    TranscriptTooLarge,
)
from maruntime.ids import new_run_id, new_session_id, new_turn_id
from orchestrator.journal import statements as sql
from orchestrator.persistence.audit import Actor
from orchestrator.persistence.engine import STORE_ERRORS

log = structlog.get_logger()

_WORKER_LOST = Failure("worker_lost", "The worker died while a tool was running; whether it took effect is not known")
_DEAD = Failure("run_dead", "The run was given up: it was started several times without any progress")
_EXPIRED = Failure("run_expired", "The run waited past its deadline")
_CANCELLED = Failure("run_cancelled", "The run was cancelled")

_STATE_AFTER: dict[EndKind, RunState] = {
    EndKind.COMPLETED: RunState.COMPLETED,
    EndKind.FAILED: RunState.FAILED,
    EndKind.WAITING: RunState.WAITING,
    EndKind.RELEASED: RunState.QUEUED,
}

_EVENT_OF_STATE: dict[RunState, EventType] = {
    RunState.QUEUED: EventType.RUN_REQUEUED,
    RunState.FAILED: EventType.RUN_FAILED,
    RunState.DEAD: EventType.RUN_DEAD,
    RunState.EXPIRED: EventType.RUN_EXPIRED,
    RunState.CANCELLED: EventType.RUN_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class NewTurn:
    """What a caller sends: the messages, and what the run carries beside them."""

    messages: tuple[Message, ...]
    deadline: timedelta
    context: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SlotOffer:
    """The free slots of a replica, one choice per case.

    `pinned` maps (endpoint, template version) and `any_version` maps an endpoint
    to `(instance id, attachment id)`.
    """

    pinned: Mapping[tuple[str, str], tuple[str, str]]
    any_version: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that was put on a slot."""

    run: RunRef
    instance_id: str
    attachment: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A claimed run as the store has it."""

    session_id: str
    tenant_id: str
    principal_id: str
    template_version_id: str
    last_commit: int
    step_no: int
    counters: dict[str, Any]
    context: dict[str, Any]
    lease_left: timedelta
    elapsed: timedelta
    transcript: tuple[Message, ...]
    open_calls: tuple[ToolCallRow, ...]


class Journal:
    """The statements, bound to a pool and to the times of ownership."""

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        *,
        lease: timedelta,
        max_attempts: int,
        clarification_wait: timedelta,
        transcript_limit: int,
    ) -> None:
        self._pool = pool
        self._lease = lease
        self._max_attempts = max_attempts
        self._clarification_wait = clarification_wait
        self._transcript_limit = transcript_limit

    # --- accept

    async def accept_session(self, caller: Principal, template: TemplateVersion, turn: NewTurn) -> Turn:
        """Open a session with its first run.

        Raises:
            TranscriptTooLarge: the messages are over the limit; nothing is stored.
            StoreUnavailable: Postgres is away.
        """
        messages, size = _encode_messages(turn.messages)
        if size > self._transcript_limit:
            raise TranscriptTooLarge(param="messages", limit=self._transcript_limit)
        session_id, run_id, turn_id = new_session_id(), new_run_id(), new_turn_id()
        async with self._store() as connection:
            row = await connection.fetchrow(
                sql.ACCEPT_SESSION,
                session_id,
                caller.tenant_id,
                caller.principal_id,
                template.id,
                run_id,
                turn_id,
                template.body.llm.endpoint,
                turn.deadline,
                turn.context,
                messages,
                size,
                {"turn": turn_id, "template": template.name, "version": template.version},
            )
        assert row is not None, "an insert of values returns its row"
        return Turn(turn_id, run_id, session_id, 0, 0, row["deadline"])

    async def accept_run(self, caller: Principal, session_id: str, template: TemplateVersion, turn: NewTurn) -> Turn:
        """Accept the next message of a session that has no active run.

        Raises:
            SessionBusy: another run of the session is active.
            SessionNotFound: no such session of this caller, or it was closed just now.
            TranscriptTooLarge: the transcript would be over the limit.
        """
        messages, size = _encode_messages(turn.messages)
        run_id, turn_id = new_run_id(), new_turn_id()
        try:
            async with self._store() as connection:
                row = await connection.fetchrow(
                    sql.ACCEPT_RUN,
                    session_id,
                    caller.tenant_id,
                    caller.principal_id,
                    run_id,
                    turn_id,
                    template.body.llm.endpoint,
                    turn.deadline,
                    turn.context,
                    messages,
                    size,
                    {"turn": turn_id, "template": template.name, "version": template.version},
                    self._transcript_limit,
                )
                if row is None:
                    raise await self._why_not_accepted(connection, caller, session_id)
        except asyncpg.UniqueViolationError as exc:
            raise SessionBusy(session_id=session_id) from exc
        return Turn(turn_id, run_id, session_id, 0, 0, row["deadline"])

    async def accept_answer(self, caller: Principal, session_id: str, turn: NewTurn) -> Turn:
        """Accept the answer to a clarification: a new turn of the waiting run.

        Raises:
            SessionBusy: the run does not wait any more: somebody answered first.
            SessionNotFound: no such session of this caller, or it was closed just now.
            TranscriptTooLarge: the transcript would be over the limit.
        """
        messages, size = _encode_messages(turn.messages)
        turn_id = new_turn_id()
        async with self._store() as connection:
            row = await connection.fetchrow(
                sql.ACCEPT_ANSWER,
                session_id,
                caller.tenant_id,
                caller.principal_id,
                turn_id,
                turn.deadline,
                messages,
                size,
                turn.context,
                {"turn": turn_id},
                self._transcript_limit,
            )
            if row is None:
                refused = await self._why_not_accepted(connection, caller, session_id)
                waiting = await connection.fetchval(sql.IS_WAITING, session_id)
                if isinstance(refused, TranscriptTooLarge) and not waiting:
                    raise SessionBusy(session_id=session_id)
                raise refused
        return Turn(turn_id, row["id"], session_id, row["epoch"], row["last_seq"] - 1, row["deadline"])

    # --- own

    async def claim(self, offer: SlotOffer) -> Claim | None:
        """Give the next queued run that a free slot can take an owner and a new epoch; None when there is none."""
        async with self._store() as connection:
            row = await connection.fetchrow(
                sql.CLAIM,
                {f"{endpoint}|{version}": slot for (endpoint, version), slot in offer.pinned.items()},
                dict(offer.any_version),
                list(offer.any_version),
                self._lease,
            )
        if row is None:
            return None
        return Claim(RunRef(row["id"], row["epoch"]), row["owner"], row["attachment"], row["session_id"])

    async def snapshot(self, run: RunRef) -> Snapshot:
        """Read what an instance needs to work on the run.

        Raises:
            Fenced: the run is not RUNNING in this epoch any more.
        """
        async with self._store() as connection:
            row = await connection.fetchrow(sql.SNAPSHOT, run.run_id, run.epoch)
        if row is None:
            raise Fenced(run_id=run.run_id, epoch=run.epoch)
        return Snapshot(
            session_id=row["session_id"],
            tenant_id=row["tenant_id"],
            principal_id=row["principal_id"],
            template_version_id=row["template_version_id"],
            last_commit=row["commit_no"],
            step_no=row["step_no"],
            counters=row["counters"],
            context=row["context"],
            lease_left=row["lease_left"],
            elapsed=row["elapsed"],
            transcript=tuple(Message.model_validate(message) for message in row["transcript"]),
            open_calls=tuple(_call_from_json(call) for call in row["open_calls"]),
        )

    async def renew(self, held: Sequence[tuple[RunRef, str]]) -> set[RunRef]:
        """Extend the leases of runs by their attachments; what is missing in the answer is lost."""
        async with self._store() as connection:
            rows = await connection.fetch(
                sql.RENEW,
                [run.run_id for run, _ in held],
                [run.epoch for run, _ in held],
                [attachment for _, attachment in held],
                self._lease,
            )
        return {RunRef(row["id"], row["epoch"]) for row in rows}

    async def reattach(self, run: RunRef, *, owner: str, attachment: str) -> int | None:
        """Move the run to another stream of its owner; gives the last stored commit, None when it is lost."""
        async with self._store() as connection:
            return await connection.fetchval(sql.REATTACH, run.run_id, run.epoch, owner, attachment, self._lease)

    async def release(self, run: RunRef, attachment: str, *, untaken: bool = False) -> tuple[RunEvent, ...]:
        """Let go of a run whose stream ended and did not come back, or which the slot never took (`untaken`).

        Two statements: the first waits for a commit that is under way, so that
        the second sees the call which that commit may have started.
        """
        async with self._store() as connection, connection.transaction():
            await connection.execute(sql.LOCK_RUN, run.run_id)
            rows = await connection.fetch(
                sql.RELEASE, run.run_id, run.epoch, attachment, self._max_attempts, _failure_json(_DEAD), int(untaken)
            )
        return tuple(_moved(row, "untaken" if untaken else "link_lost") for row in rows)

    # --- commit

    async def commit(self, commit: Commit) -> Stored:
        """Store one commit of the run's owner (T1 to T4).

        Returns:
            STORED with the events in their places (none for a duplicate), or FENCED. What no
            table can hold is FENCED too: sending it again cannot help, and the run's attempts are counted.

        Raises:
            StoreUnavailable: Postgres is away; the same commit may be sent again.
        """
        messages, size = _encode_messages(commit.messages)
        end = commit.end
        state = _STATE_AFTER[end.kind] if end else RunState.RUNNING
        events = [
            {"type": event.type.value, "payload": event.payload, "ends": event.type.ends_turn}
            for event in commit.events
        ]
        waits = state is RunState.WAITING
        try:
            async with self._store() as connection:
                row = await connection.fetchrow(
                    sql.COMMIT,
                    commit.run.run_id,
                    commit.run.epoch,
                    commit.commit_no,
                    commit.step_no,
                    commit.counters,
                    messages,
                    size,
                    [_call_to_json(call) for call in commit.calls],
                    events,
                    state.value,
                    self._lease,
                    end.waiting_for.value if end and end.waiting_for else None,
                    self._clarification_wait if waits else None,
                    _failure_json(end.failure) if end and end.failure else None,
                    [artifact.id for artifact in commit.artifacts],
                    [artifact.name for artifact in commit.artifacts],
                    [artifact.media_type for artifact in commit.artifacts],
                    [artifact.content for artifact in commit.artifacts],
                    commit.usage.prompt_tokens,
                    commit.usage.completion_tokens,
                    commit.usage.cached_tokens,
                )
                if row is None:
                    return await self._duplicate_or_fenced(connection, commit)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as exc:
            log.error("commit_unstorable", run_id=commit.run.run_id, commit_no=commit.commit_no, reason=str(exc))
            return Stored(Verdict.FENCED)
        usage = {name: row[name] for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
        placed = tuple(
            RunEvent(
                commit.run.run_id,
                commit.run.epoch,
                row["base_seq"] + place,
                event.type,
                {**event.payload, "usage": usage} if event.type.ends_turn else event.payload,
            )
            for place, event in enumerate(commit.events, start=1)
        )
        return Stored(Verdict.STORED, row["last_seq"], placed)

    # --- end from outside

    async def sweep_leases(self) -> tuple[RunEvent, ...]:
        """Take back what lost its lease: to the queue, or ended when a started call or too many attempts say so."""
        async with self._store() as connection:
            rows = await connection.fetch(
                sql.SWEEP_LEASES, self._max_attempts, _failure_json(_WORKER_LOST), _failure_json(_DEAD)
            )
        return tuple(_moved(row, "lease_lost") for row in rows)

    async def sweep_deadlines(self) -> tuple[RunEvent, ...]:
        """Expire what was queued past its turn's deadline or waited for nobody."""
        async with self._store() as connection:
            rows = await connection.fetch(sql.SWEEP_DEADLINES, _failure_json(_EXPIRED))
        return tuple(_moved(row, "late") for row in rows)

    async def close_session(self, caller: Principal, session_id: str) -> tuple[RunEvent, ...]:
        """Close a session and cancel its active run.

        Raises:
            SessionNotFound: no such session of this caller.
        """
        said = (session_id, caller.tenant_id, caller.principal_id, _failure_json(_CANCELLED))
        async with self._store() as connection:
            rows = await connection.fetch(sql.CLOSE_SESSION, *said)
            # A run that was accepted while the first waited for the session's row is not in its snapshot.
            rows += await connection.fetch(sql.CLOSE_SESSION, *said)
        if not rows:
            raise SessionNotFound(session_id=session_id)
        return tuple(_moved(row, "cancelled") for row in rows if row["id"] is not None)

    async def cancel_run(self, actor: Actor, session_id: str) -> tuple[RunEvent, ...]:
        """Cancel the active run of any session of the tenant, and audit it; the session stays open.

        Raises:
            SessionNotFound: no such session of the tenant.
        """
        async with self._store() as connection:
            if await connection.fetchval(sql.IS_THERE, session_id, actor.tenant_id) is None:
                raise SessionNotFound(f"The session {session_id!r} does not exist", session_id=session_id)
            rows = await connection.fetch(
                sql.CANCEL_RUN,
                session_id,
                actor.tenant_id,
                _failure_json(_CANCELLED),
                actor.principal_id,
                actor.key_id,
                actor.request_id,
            )
        return tuple(_moved(row, "cancelled") for row in rows)

    # --- read

    async def events_after(self, run_id: str, seq: int) -> tuple[RunEvent, ...]:
        """Read at most 500 events after a place."""
        async with self._store() as connection:
            rows = await connection.fetch(sql.EVENTS_AFTER, run_id, seq)
        return tuple(RunEvent(run_id, row["epoch"], row["seq"], EventType(row["type"]), row["payload"]) for row in rows)

    async def last_seqs(self, run_ids: Sequence[str]) -> dict[str, int]:
        """How many events each run has."""
        async with self._store() as connection:
            rows = await connection.fetch(sql.LAST_SEQS, list(run_ids))
        return {row["id"]: row["last_seq"] for row in rows}

    async def delivered(self, turn_id: str) -> None:
        """Note that the whole response of a turn was written."""
        async with self._store() as connection:
            await connection.execute(sql.DELIVERED, turn_id)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[Any]"]:
        try:
            async with self._pool.acquire(timeout=5) as connection:
                yield connection
        except STORE_ERRORS as exc:
            raise StoreUnavailable from exc

    async def _why_not_accepted(self, connection: Any, caller: Principal, session_id: str) -> MaruntimeError:
        is_open = await connection.fetchval(sql.IS_OPEN, session_id, caller.tenant_id, caller.principal_id)
        return TranscriptTooLarge(param="messages") if is_open else SessionNotFound(session_id=session_id)

    async def _duplicate_or_fenced(self, connection: Any, commit: Commit) -> Stored:
        row = await connection.fetchrow(sql.WHERE_IT_STANDS, commit.run.run_id)
        if row is not None and row["epoch"] == commit.run.epoch and row["commit_no"] >= commit.commit_no:
            return Stored(Verdict.STORED, row["last_seq"])
        return Stored(Verdict.FENCED)


def _encode_messages(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], int]:
    encoded = [message.to_openai() for message in messages]
    return encoded, len(orjson.dumps(encoded))


def _call_to_json(call: ToolCallRow) -> dict[str, Any]:
    return {
        "step_no": call.step_no,
        "call_idx": call.call_idx,
        "call_id": call.call_id,
        "tool_name": call.tool_name,
        "tool_version_id": call.tool_version_id,
        "effect_class": call.effect_class.value,
        "arguments": call.arguments,
        "state": call.state.value,
        "result": call.result,
        "error_code": call.error_code,
        "artifact_id": call.artifact_id,
    }


def _call_from_json(call: dict[str, Any]) -> ToolCallRow:
    return ToolCallRow(**{**call, "effect_class": EffectClass(call["effect_class"]), "state": CallState(call["state"])})


def _failure_json(failure: Failure) -> dict[str, Any]:
    return {"code": failure.code, "message": failure.message}


def _moved(row: Any, reason: str) -> RunEvent:
    payload = row["failure"] or {"reason": reason}
    return RunEvent(row["id"], row["epoch"], row["last_seq"], _EVENT_OF_STATE[RunState(row["state"])], payload)
