"""`/admin/audit`: who changed what."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.admin.schemas import Limit, number_after, page_body
from orchestrator.dependencies import AdminCaller, Platform
from orchestrator.persistence.audit import AuditTrail
from orchestrator.persistence.transaction import transaction

router = APIRouter(tags=["admin"])

Target = Annotated[str | None, Query(pattern=r"^(tool|template|session):[A-Za-z0-9_-]{1,128}$")]


@router.get("/admin/audit")
async def list_changes(
    caller: AdminCaller, platform: Platform, limit: Limit = 50, after: str | None = None, target: Target = None
) -> dict[str, Any]:
    """List the tenant's changes, newest first; `target` is a kind and a name, such as `tool:get_weather`."""
    before = number_after(after)
    async with transaction(platform.maker) as tx:
        found = await AuditTrail(tx).page(caller.tenant_id, limit=limit + 1, before=before, target=target)
    return page_body(found, limit, "id")
