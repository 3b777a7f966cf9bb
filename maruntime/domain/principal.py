"""On whose behalf something is done."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"


class Scope(StrEnum):
    """What a key may be used for."""

    CHAT = "chat"
    APPROVE = "approve"
    ADMIN = "admin"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of sessions: several keys may speak for one principal, so that keys can rotate."""

    tenant_id: str
    principal_id: str
    key_id: str
    scopes: frozenset[Scope]

    def has(self, scope: Scope) -> bool:
        """Whether the key carries the scope."""
        return scope in self.scopes
