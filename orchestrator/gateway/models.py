"""`/v1/models` and `/v1/tools`: what there is to talk to, and what it can use."""

from typing import Any

from fastapi import APIRouter

from maruntime.domain.template import TemplateVersion
from maruntime.errors import ModelNotFound, SessionNotFound
from orchestrator.dependencies import ChatCaller, Platform
from orchestrator.gateway.model_reference import Auto, SessionReference, TemplateName, parse_model
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository

router = APIRouter(tags=["models"])

_OWNER = "maruntime"


@router.get("/v1/models")
async def list_models(caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """List the templates that a client may name as `model`; `auto` lets the platform choose."""
    templates = await platform.templates.active()
    return {"object": "list", "data": [_auto(), *(_model(template) for template in templates)]}


@router.get("/v1/models/{model_id}")
async def get_model(model_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """Show one: a template name, `name@version`, or a session of the caller."""
    match parse_model(model_id):
        case Auto():
            return _auto()
        case TemplateName(name, version):
            try:
                return {**_model(await platform.templates.by_name(name, version)), "id": model_id}
            except ModelNotFound as exc:
                raise ModelNotFound(exc.message, param="model") from exc
        case SessionReference(session_id):
            try:
                async with transaction(platform.maker) as tx:
                    session = await SessionRepository(tx, caller).get(session_id)
            except SessionNotFound as exc:
                raise ModelNotFound(exc.message, param="model") from exc
            created = int(session.created_at.timestamp())
            return {"id": session.id, "object": "model", "created": created, "owned_by": _OWNER}


@router.get("/v1/tools")
async def list_tools(caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """List the active tools with the JSON Schema of their arguments."""
    tools = await platform.tools.active()
    return {
        "object": "list",
        "data": [
            {
                "id": tool.version_id,
                "object": "tool",
                "name": tool.name,
                "description": tool.description,
                "kind": tool.kind.value,
                "effect_class": tool.effect_class.value,
                "parameters": tool.parameters,
            }
            for tool in tools.values()
        ],
    }


def _auto() -> dict[str, Any]:
    return {"id": "auto", "object": "model", "created": 0, "owned_by": _OWNER}


def _model(template: TemplateVersion) -> dict[str, Any]:
    created = int(template.created_at.timestamp()) if template.created_at else 0
    return {"id": template.name, "object": "model", "created": created, "owned_by": _OWNER}
