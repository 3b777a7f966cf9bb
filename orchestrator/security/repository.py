"""API keys in Postgres, by their hashes."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.principal import Principal, Scope
from maruntime.errors import KeyNotFound
from orchestrator.persistence.rows.api_key import ApiKeyRow


class ApiKeyRepository:
    """Reads and writes of one database session."""

    def __init__(self, tx: AsyncSession) -> None:
        self._tx = tx

    async def by_hash(self, key_hash: bytes) -> tuple[Principal, bytes] | None:
        """The principal of a valid key, with the stored hash; None when there is none."""
        query = select(ApiKeyRow).where(ApiKeyRow.key_hash == key_hash, ApiKeyRow.revoked_at.is_(None))
        row = (await self._tx.scalars(query)).one_or_none()
        if row is None:
            return None
        return Principal(row.tenant_id, row.principal_id, row.id, frozenset(map(Scope, row.scopes))), row.key_hash

    async def put(self, **values: Any) -> None:
        """Store a key; one from the environment takes the place of its former self."""
        statement = insert(ApiKeyRow).values(**values)
        await self._tx.execute(
            statement.on_conflict_do_update(
                index_elements=[ApiKeyRow.key_hash],
                set_={"scopes": statement.excluded.scopes, "name": statement.excluded.name, "revoked_at": None},
                where=ApiKeyRow.origin == "environment",
            )
        )

    async def revoke(self, tenant_id: str, key_id: str, at: datetime) -> None:
        """Let a key be valid no longer.

        Raises:
            KeyNotFound: no such key of the tenant.
        """
        query = (
            update(ApiKeyRow)
            .where(ApiKeyRow.id == key_id, ApiKeyRow.tenant_id == tenant_id, ApiKeyRow.revoked_at.is_(None))
            .values(revoked_at=at)
            .returning(ApiKeyRow.id)
        )
        if (await self._tx.scalars(query)).one_or_none() is None:
            raise KeyNotFound(key_id=key_id)

    async def revoke_environment(self, valid: Collection[bytes], at: datetime) -> None:
        """Let keys from the environment that it names no longer be valid no longer."""
        await self._tx.execute(
            update(ApiKeyRow)
            .where(
                ApiKeyRow.origin == "environment",
                ApiKeyRow.key_hash.not_in(valid),
                ApiKeyRow.revoked_at.is_(None),
            )
            .values(revoked_at=at)
        )

    async def all_of(self, tenant_id: str) -> list[dict[str, Any]]:
        """What may be shown of the tenant's keys, newest first; never a hash."""
        query = select(ApiKeyRow).where(ApiKeyRow.tenant_id == tenant_id).order_by(ApiKeyRow.created_at.desc())
        return [
            {
                "id": row.id,
                "name": row.name,
                "principal": row.principal_id,
                "scopes": row.scopes,
                "origin": row.origin,
                "created_at": row.created_at,
                "revoked_at": row.revoked_at,
            }
            for row in await self._tx.scalars(query)
        ]
