"""`/admin/instances`: the pool as the registry shows it."""

import dataclasses
from typing import Any

from fastapi import APIRouter

from maruntime.errors import Unavailable
from orchestrator.dependencies import AdminCaller, Platform

router = APIRouter(tags=["admin"])


@router.get("/admin/instances")
async def list_instances(caller: AdminCaller, platform: Platform) -> dict[str, Any]:
    """List the instances of all replicas; without the registry, those of this one."""
    try:
        await platform.publisher.flush(platform.slots)
        records = await platform.registry.all()
        scope = "all_replicas" if platform.redis else "this_replica"
    except Unavailable:
        records = sorted((platform.slots.record(slot) for slot in platform.slots), key=lambda r: r.instance_id)
        scope = "this_replica"
    return {"instances": [dataclasses.asdict(record) for record in records], "total": len(records), "scope": scope}
