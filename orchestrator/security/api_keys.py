"""Who is calling: keys are kept as SHA-256 hashes, since they are long random texts and not passwords.

A valid key is remembered for `fresh_for`; a revoked one is refused at once by
the replica that revoked it and within that time by the others.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.clock import Clock
from maruntime.domain.principal import DEFAULT_TENANT, Principal, Scope
from maruntime.errors import KeyInvalid, KeyMissing, ScopeMissing
from maruntime.ids import new_id
from orchestrator.persistence.transaction import transaction
from orchestrator.security.repository import ApiKeyRepository

_PREFIX = "mrt_"
_REMEMBERED = 10_000
_ENVIRONMENT_PRINCIPAL = "operator"


class ApiKeys:
    """The keys that may call us."""

    def __init__(
        self, maker: async_sessionmaker[AsyncSession], clock: Clock, *, fresh_for: timedelta = timedelta(seconds=5)
    ) -> None:
        self._maker = maker
        self._clock = clock
        self._fresh_for = fresh_for.total_seconds()
        self._seen: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def authenticate(self, key: str | None, needed: Scope) -> Principal:
        """The principal that a key speaks for.

        Raises:
            KeyMissing: no key was sent.
            KeyInvalid: no such key, or it was revoked.
            ScopeMissing: the key may not do this.
        """
        if not key:
            raise KeyMissing
        principal = await self._principal_of(_hash(key))
        if not principal.has(needed):
            raise ScopeMissing(f"The API key does not have the scope {needed.value!r}", scope=needed.value)
        return principal

    async def create(
        self, tenant_id: str, name: str, scopes: Iterable[Scope], principal_id: str | None
    ) -> tuple[str, str]:
        """Make a key; gives its id and the key itself, which is shown this once.

        `principal_id` lets a new key speak for an existing principal, so that keys can rotate.
        """
        key, key_id = _PREFIX + secrets.token_urlsafe(32), new_id("key")
        async with transaction(self._maker) as tx:
            await ApiKeyRepository(tx).put(
                id=key_id,
                tenant_id=tenant_id,
                principal_id=principal_id or new_id("prin"),
                name=name,
                key_hash=_hash(key),
                scopes=sorted(scope.value for scope in scopes),
                origin="admin",
            )
        return key_id, key

    async def revoke(self, tenant_id: str, key_id: str) -> None:
        """Let a key be valid no longer.

        Raises:
            KeyNotFound: no such key of the tenant.
        """
        async with transaction(self._maker) as tx:
            await ApiKeyRepository(tx).revoke(tenant_id, key_id, self._clock.now())
        self._seen.clear()

    async def all_of(self, tenant_id: str) -> list[dict[str, Any]]:
        """What may be shown of the tenant's keys."""
        async with transaction(self._maker) as tx:
            return await ApiKeyRepository(tx).all_of(tenant_id)

    async def hash_in(self, name: str, key: str, scopes: Iterable[Scope]) -> None:
        """Take in a key from the environment; its former value is valid no longer."""
        async with transaction(self._maker) as tx:
            repository = ApiKeyRepository(tx)
            await repository.revoke_environment(name, _hash(key), self._clock.now())
            await repository.put(
                id=new_id("key"),
                tenant_id=DEFAULT_TENANT,
                principal_id=_ENVIRONMENT_PRINCIPAL,
                name=name,
                key_hash=_hash(key),
                scopes=sorted(scope.value for scope in scopes),
                origin="environment",
            )

    async def _principal_of(self, key_hash: bytes) -> Principal:
        known = self._seen.get(key_hash)
        if known and self._clock.monotonic() - known[0] < self._fresh_for:
            return known[1]
        self._seen.pop(key_hash, None)
        async with transaction(self._maker) as tx:
            found = await ApiKeyRepository(tx).by_hash(key_hash)
        if found is None or not hmac.compare_digest(found[1], key_hash):
            raise KeyInvalid
        self._seen[key_hash] = (self._clock.monotonic(), found[0])
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return found[0]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
