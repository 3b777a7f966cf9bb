"""The secrets of one home: generated once, kept in a file of mode 0600, never a fixed default."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from supervisor.home import Home, write_private


@dataclass(frozen=True, repr=False)
class Credentials:
    """What the processes of one system know each other by. Postgres keeps its password beside its data."""

    api_key: str
    admin_key: str
    internal_key: str
    join_token: str
    redis_password: str

    @classmethod
    def of(cls, home: Home, environ: Mapping[str, str]) -> Self:
        """Read the home's secrets, generating what is missing; what the user's environment names comes first."""
        kept: dict[str, str] = json.loads(home.secrets.read_text()) if home.secrets.exists() else {}
        complete = {field.name: kept.get(field.name) or secrets.token_urlsafe(32) for field in fields(cls)}
        if complete != kept:
            write_private(home.secrets, json.dumps(complete, indent=1) + "\n")
        named = {
            "api_key": environ.get("MARUNTIME_API_KEY"),
            "admin_key": environ.get("ADMIN_API_KEY") or environ.get("MARUNTIME_ADMIN_KEY"),
            "internal_key": environ.get("INTERNAL_API_KEY"),
            "join_token": environ.get("MARUNTIME_JOIN_TOKEN"),
        }
        return cls(**(complete | {name: value for name, value in named.items() if value}))
