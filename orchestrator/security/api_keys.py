"""Who is calling: keys are kept as SHA-256 hashes, since they are long random texts and not passwords.

A valid key is remembered for `fresh_for`; a revoked one is refused at once by
the replica that revoked it and within that time by the others.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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
_REFUSED_FOR = 1.0
_ENVIRONMENT_PRINCIPAL = "operator"


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A key that the environment names."""

    name: str
    key: str = field(repr=False)
    scopes: frozenset[Scope]


class ApiKeys:
    """The keys that may call us."""

    def __init__(
        self, maker: async_sessionmaker[AsyncSession], clock: Clock, *, fresh_for: timedelta = timedelta(seconds=5)
    ) -> None:
        self._maker = maker
        self._clock = clock
        self._fresh_for = fresh_for.total_seconds()
        self._seen: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()

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
    ) -> tuple[str, str, str]:
        """Make a key; gives its id, its principal and the key itself, which is shown this once.

        `principal_id` lets a new key speak for an existing principal, so that keys can rotate.
        """
        key, key_id = _PREFIX + secrets.token_urlsafe(32), new_id("key")
        principal_id = principal_id or new_id("prin")
        async with transaction(self._maker) as tx:
            await ApiKeyRepository(tx).put(
                id=key_id,
                tenant_id=tenant_id,
                principal_id=principal_id,
                name=name,
                key_hash=_hash(key),
                scopes=sorted(scope.value for scope in scopes),
                origin="admin",
            )
        return key_id, principal_id, key

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

    async def take_from_environment(self, given: Sequence[GivenKey]) -> None:
        """Let exactly these keys of the environment be valid; former ones are valid no longer.

        A variable may hold several keys, so that a key can be rotated over
        replicas that start one after another. One key under two names has the
        scopes of both.
        """
        scopes: dict[bytes, set[Scope]] = {}
        names: dict[bytes, list[str]] = {}
        for key in given:
            key_hash = _hash(key.key)
            scopes.setdefault(key_hash, set()).update(key.scopes)
            names.setdefault(key_hash, []).append(key.name)
        async with transaction(self._maker) as tx:
            repository = ApiKeyRepository(tx)
            await repository.revoke_environment(scopes.keys(), self._clock.now())
            for key_hash in sorted(scopes):
                await repository.put(
                    id=new_id("key"),
                    tenant_id=DEFAULT_TENANT,
                    principal_id=_ENVIRONMENT_PRINCIPAL,
                    name=", ".join(names[key_hash]),
                    key_hash=key_hash,
                    scopes=sorted(scope.value for scope in scopes[key_hash]),
                    origin="environment",
                )

    async def _principal_of(self, key_hash: bytes) -> Principal:
        known = self._seen.get(key_hash)
        if known and self._clock.monotonic() - known[0] < self._fresh_for:
            return known[1]
        self._seen.pop(key_hash, None)
        refused_at = self._refused.get(key_hash)
        if refused_at is not None and self._clock.monotonic() - refused_at < _REFUSED_FOR:
            raise KeyInvalid
        async with transaction(self._maker) as tx:
            found = await ApiKeyRepository(tx).by_hash(key_hash)
        if found is None or not hmac.compare_digest(found[1], key_hash):
            # A flood of wrong keys must not take the store's connections from the right ones.
            self._refused[key_hash] = self._clock.monotonic()
            if len(self._refused) > _REMEMBERED:
                self._refused.popitem(last=False)
            raise KeyInvalid
        self._seen[key_hash] = (self._clock.monotonic(), found[0])
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return found[0]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
