"""`/admin/keys`: who may call. A key is shown once, when it is made."""

from typing import Any

from fastapi import APIRouter, status
from pydantic import BaseModel, ConfigDict, Field

from maruntime.domain.principal import Scope
from maruntime.errors import KeyNotFound
from maruntime.ids import is_id
from orchestrator.dependencies import AdminCaller, Platform

router = APIRouter(tags=["admin"])


class KeyCreate(BaseModel):
    """What a new key may do and for whom it speaks."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "team-a", "scopes": ["chat", "approve"]}}
    )

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
    scopes: set[Scope] = Field(min_length=1)
    principal: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.:-]{1,128}$")
    """An existing principal, so that a key can be rotated; a new one when absent."""


@router.post("/admin/keys", status_code=status.HTTP_201_CREATED)
async def create_key(body: KeyCreate, caller: AdminCaller, platform: Platform) -> dict[str, Any]:
    """Make a key; `key` is in this answer and nowhere else."""
    key_id, principal, key = await platform.keys.create(caller.tenant_id, body.name, body.scopes, body.principal)
    return {
        "id": key_id,
        "key": key,
        "name": body.name,
        "principal": principal,
        "scopes": sorted(scope.value for scope in body.scopes),
    }


@router.get("/admin/keys")
async def list_keys(caller: AdminCaller, platform: Platform) -> dict[str, Any]:
    """List the tenant's keys without the keys themselves."""
    return {"object": "list", "data": await platform.keys.all_of(caller.tenant_id)}


@router.delete("/admin/keys/{key_id}")
async def revoke_key(key_id: str, caller: AdminCaller, platform: Platform) -> dict[str, Any]:
    """Revoke a key: refused here at once, by other replicas within seconds."""
    if not is_id("key", key_id):
        raise KeyNotFound
    await platform.keys.revoke(caller.tenant_id, key_id)
    return {"id": key_id, "revoked": True}
