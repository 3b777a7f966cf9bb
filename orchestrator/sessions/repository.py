"""Sessions and runs as their owners see them. Every query names the principal; a foreign one is not there."""

from typing import Any

from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.message import Message, ToolCallRef
from maruntime.domain.principal import Principal
from maruntime.domain.run import ACTIVE_STATES, Failure, Run, RunState, Usage, WaitingFor
from maruntime.domain.session import Session
from maruntime.errors import RunNotFound, SessionNotFound
from orchestrator.persistence.rows.run import ArtifactRow, RunRow, TurnRow
from orchestrator.persistence.rows.session import SessionMessageRow, SessionRow
from orchestrator.sessions.with_latest_run import select_sessions, session_of


class SessionRepository:
    """Reads of one database session, on behalf of one caller."""

    def __init__(self, tx: AsyncSession, caller: Principal) -> None:
        self._tx = tx
        self._caller = caller

    async def get(self, session_id: str) -> Session:
        """A session with the state of its latest run.

        Raises:
            SessionNotFound: no such session of this caller.
        """
        row = (await self._tx.execute(self._sessions().where(SessionRow.id == session_id))).one_or_none()
        if row is None:
            raise SessionNotFound(f"The session {session_id!r} does not exist", session_id=session_id)
        return session_of(row)

    async def page(self, *, limit: int, after: str | None, only_active: bool = False) -> list[Session]:
        """The caller's sessions, newest first; `after` is the id that the last page ended with."""
        query = self._sessions().order_by(SessionRow.id.desc()).limit(limit)
        if after is not None:
            query = query.where(SessionRow.id < after)
        if only_active:
            query = query.where(SessionRow.closed_at.is_(None), RunRow.state.in_([s.value for s in ACTIVE_STATES]))
        return [session_of(row) for row in (await self._tx.execute(query)).all()]

    async def transcript(self, session_id: str, *, limit: int, after: int) -> list[tuple[int, Message]]:
        """Messages of a session in order, each with its place."""
        await self.get(session_id)
        query = (
            select(SessionMessageRow)
            .where(SessionMessageRow.session_id == session_id, SessionMessageRow.id > after)
            .order_by(SessionMessageRow.id)
            .limit(limit)
        )
        return [(row.id, _message(row)) for row in await self._tx.scalars(query)]

    async def latest_run(self, session_id: str) -> Run | None:
        """The newest run of a session of this caller."""
        await self.get(session_id)
        return await self._one_run(
            _runs().where(RunRow.session_id == session_id).order_by(RunRow.accepted_at.desc()).limit(1)
        )

    async def run(self, run_id: str) -> Run:
        """A run of this caller.

        Raises:
            RunNotFound: no such run of this caller.
        """
        found = await self._one_run(
            _runs().where(
                tuple_(RunRow.id, RunRow.tenant_id, RunRow.principal_id)
                == (run_id, self._caller.tenant_id, self._caller.principal_id)
            )
        )
        if found is None:
            raise RunNotFound(f"The run {run_id!r} does not exist", run_id=run_id)
        return found

    async def artifacts(self, session_id: str) -> list[dict[str, Any]]:
        """What the session's tools made, without the contents."""
        await self.get(session_id)
        query = (
            select(ArtifactRow.id, ArtifactRow.name, ArtifactRow.media_type, ArtifactRow.run_id, ArtifactRow.created_at)
            .where(ArtifactRow.session_id == session_id)
            .order_by(ArtifactRow.id)
        )
        return [dict(row._mapping) for row in await self._tx.execute(query)]

    async def artifact(self, session_id: str, artifact_id: str) -> tuple[str, str, bytes] | None:
        """Name, media type and content of one artifact; None when there is none."""
        await self.get(session_id)
        query = select(ArtifactRow.name, ArtifactRow.media_type, ArtifactRow.content).where(
            ArtifactRow.session_id == session_id, ArtifactRow.id == artifact_id
        )
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else (row.name, row.media_type, row.content)

    def _sessions(self) -> Select[Any]:
        return select_sessions().where(
            SessionRow.tenant_id == self._caller.tenant_id, SessionRow.principal_id == self._caller.principal_id
        )

    async def _one_run(self, query: Select[Any]) -> Run | None:
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else _run(row[0], row[1])


def _runs() -> Select[Any]:
    return select(RunRow, TurnRow).join(TurnRow, TurnRow.id == RunRow.turn_id)


def _run(row: RunRow, turn: TurnRow) -> Run:
    return Run(
        id=row.id,
        tenant_id=row.tenant_id,
        session_id=row.session_id,
        principal_id=row.principal_id,
        turn_id=row.turn_id,
        template_version_id=row.template_version_id,
        state=RunState(row.state),
        waiting_for=WaitingFor(row.waiting_for) if row.waiting_for else None,
        epoch=row.epoch,
        step_no=row.step_no,
        last_seq=row.last_seq,
        attempts=row.attempts,
        owner=row.owner,
        last_owner=row.last_owner,
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        failure=Failure(row.failure["code"], row.failure["message"]) if row.failure else None,
        usage=Usage(turn.prompt_tokens, turn.completion_tokens, turn.cached_tokens),
        counters=row.counters,
        metadata=row.context.get("metadata", {}),
    )


def _message(row: SessionMessageRow) -> Message:
    return Message(
        role=row.role,  # type: ignore[arg-type] - pydantic makes the enum
        content=row.content,
        tool_calls=tuple(ToolCallRef.model_validate(call) for call in row.tool_calls or ()),
        tool_call_id=row.tool_call_id,
        name=row.name,
    )
