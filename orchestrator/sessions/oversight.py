"""Sessions as administrators see them: those of all principals of one tenant."""

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.event import EventType
from maruntime.domain.run import ACTIVE_STATES
from maruntime.domain.session import Session
from maruntime.errors import SessionNotFound
from orchestrator.persistence.rows.run import RunEventRow, RunRow
from orchestrator.persistence.rows.session import SessionRow
from orchestrator.sessions.with_latest_run import select_sessions, session_of


class SessionOversight:
    """Reads of one database session, for one tenant."""

    def __init__(self, tx: AsyncSession, tenant_id: str) -> None:
        self._tx = tx
        self._tenant_id = tenant_id

    async def get(self, session_id: str) -> Session:
        """A session with the state of its latest run.

        Raises:
            SessionNotFound: no such session of the tenant.
        """
        row = (await self._tx.execute(self._sessions().where(SessionRow.id == session_id))).one_or_none()
        if row is None:
            raise SessionNotFound(f"The session {session_id!r} does not exist", session_id=session_id)
        return session_of(row)

    async def page(self, *, limit: int, after: str | None, principal: str | None, active: bool | None) -> list[Session]:
        """The tenant's sessions, newest first; `after` is the id that the last page ended with."""
        query = self._sessions().order_by(SessionRow.id.desc()).limit(limit)
        if after is not None:
            query = query.where(SessionRow.id < after)
        if principal is not None:
            query = query.where(SessionRow.principal_id == principal)
        if active is not None:
            works = SessionRow.closed_at.is_(None) & RunRow.state.in_([state.value for state in ACTIVE_STATES])
            query = query.where(works if active else works.is_not(True))
        return [session_of(row) for row in (await self._tx.execute(query)).all()]

    async def runs(self, session_id: str, *, limit: int) -> list[dict[str, Any]]:
        """The session's runs, newest first."""
        query = select(RunRow).where(RunRow.session_id == session_id).order_by(RunRow.accepted_at.desc()).limit(limit)
        return [
            {
                "id": run.id,
                "state": run.state,
                "waiting_for": run.waiting_for,
                "step": run.step_no,
                "attempts": run.attempts,
                "instance_id": run.owner or run.last_owner,
                "counters": run.counters,
                "error": run.failure,
                "accepted_at": run.accepted_at,
                "ended_at": run.ended_at,
            }
            for run in await self._tx.scalars(query)
        ]

    async def step_tools(self, session_id: str, step: int, run_id: str | None) -> tuple[str, Any] | None:
        """The run and its explanation of a step's tools; of several runs and tries the latest."""
        query = (
            select(RunEventRow.run_id, RunEventRow.payload["tools"])
            .join(RunRow, RunRow.id == RunEventRow.run_id)
            .where(
                RunRow.session_id == session_id,
                RunEventRow.type == EventType.STEP_REASONED.value,
                RunEventRow.payload.contains({"step": step}),
                RunEventRow.payload.has_key("tools"),
            )
            .order_by(RunRow.accepted_at.desc(), RunEventRow.seq.desc())
            .limit(1)
        )
        if run_id is not None:
            query = query.where(RunEventRow.run_id == run_id)
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else (row[0], row[1])

    def _sessions(self) -> Select[Any]:
        return select_sessions().where(SessionRow.tenant_id == self._tenant_id)
