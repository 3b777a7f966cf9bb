"""A session beside its latest run, whose state is what everybody sees as the session's own.

Whose sessions those are is the caller's `where`: the owner's repository names the
principal, the administrators' names the tenant.
"""

from typing import Any

from sqlalchemy import Row, Select, select

from maruntime.domain.run import RunState, WaitingFor
from maruntime.domain.session import Session
from orchestrator.persistence.rows.catalog import TemplateRow, TemplateVersionRow
from orchestrator.persistence.rows.run import RunRow
from orchestrator.persistence.rows.session import SessionRow


def select_sessions() -> Select[Any]:
    """Select every session with its template and its latest run; `session_of` reads the rows."""
    latest = (
        select(RunRow.id)
        .where(RunRow.session_id == SessionRow.id)
        .order_by(RunRow.accepted_at.desc())
        .limit(1)
        .correlate(SessionRow)
        .scalar_subquery()
    )
    return (
        select(
            SessionRow,
            TemplateRow.name.label("template"),
            TemplateVersionRow.version.label("template_version"),
            RunRow.id.label("run_id"),
            RunRow.state.label("run_state"),
            RunRow.waiting_for.label("waiting_for"),
        )
        .join(TemplateVersionRow, TemplateVersionRow.id == SessionRow.template_version_id)
        .join(TemplateRow, TemplateRow.id == TemplateVersionRow.template_id)
        .outerjoin(RunRow, RunRow.id == latest)
    )


def session_of(row: Row[Any]) -> Session:
    """Read one row of `select_sessions`."""
    session: SessionRow = row[0]
    return Session(
        id=session.id,
        tenant_id=session.tenant_id,
        principal_id=session.principal_id,
        template=row.template,
        template_version_id=session.template_version_id,
        template_version=row.template_version,
        created_at=session.created_at,
        closed_at=session.closed_at,
        run_id=row.run_id,
        run_state=RunState(row.run_state) if row.run_state else None,
        waiting_for=WaitingFor(row.waiting_for) if row.waiting_for else None,
    )
