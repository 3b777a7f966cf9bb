"""Write down who changed what, in the transaction that makes the change, and read it again."""

from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.principal import Principal
from orchestrator.persistence.rows.audit import AuditRow


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change, with which key and by which request."""

    tenant_id: str
    principal_id: str
    key_id: str | None = None
    request_id: str | None = None

    @classmethod
    def from_principal(cls, caller: Principal, request_id: str | None) -> Self:
        """The owner of a key that was sent with a request."""
        return cls(caller.tenant_id, caller.principal_id, caller.key_id, request_id)


class AuditTrail:
    """Reads and writes of one database session."""

    def __init__(self, tx: AsyncSession) -> None:
        self._tx = tx

    def record(self, actor: Actor, action: str, target: str, before: Any, after: Any) -> None:
        """Note a change; it is stored when the transaction commits, or not at all."""
        self._tx.add(
            AuditRow(
                tenant_id=actor.tenant_id,
                principal_id=actor.principal_id,
                key_id=actor.key_id,
                request_id=actor.request_id,
                action=action,
                target=target,
                before=before,
                after=after,
            )
        )

    async def page(self, tenant_id: str, *, limit: int, before: int | None, target: str | None) -> list[dict[str, Any]]:
        """The tenant's changes, newest first; `before` is the id that the last page ended with."""
        query = select(AuditRow).where(AuditRow.tenant_id == tenant_id).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        if target is not None:
            query = query.where(AuditRow.target == target)
        return [
            {
                "id": str(row.id),
                "object": "audit_entry",
                "action": row.action,
                "target": row.target,
                "principal": row.principal_id,
                "key_id": row.key_id,
                "request_id": row.request_id,
                "before": row.before,
                "after": row.after,
                "created_at": row.created_at,
            }
            for row in await self._tx.scalars(query)
        ]
