"""`/openapi.json`: the interface's description, for callers with a key."""

from typing import Any

from fastapi import APIRouter, Request

from orchestrator.dependencies import ChatCaller

router = APIRouter(tags=["meta"])


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request, caller: ChatCaller) -> dict[str, Any]:
    """Describe every route."""
    return request.app.openapi()
