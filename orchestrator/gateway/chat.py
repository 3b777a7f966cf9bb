"""`POST /v1/chat/completions`: the OpenAI wire."""

from typing import Any

from fastapi import APIRouter, Request, Response

from maruntime.domain.message import Message, Role
from maruntime.domain.principal import Principal
from maruntime.errors import Invalid, ModelNotFound, SessionNotFound, Unavailable
from maruntime.ids import is_session_id
from orchestrator.dependencies import ChatCaller, Platform
from orchestrator.dispatch.acceptance import Accepted
from orchestrator.dispatch.acceptance import Request as WorkRequest
from orchestrator.gateway.completion_response import CompletionResponses
from orchestrator.gateway.model_reference import SessionReference, TemplateName
from orchestrator.gateway.schemas import ChatRequest, decode_json, parse_chat_request
from orchestrator.resources import Resources

router = APIRouter(tags=["chat"])

_TRACE_HEADERS = ("traceparent", "tracestate", "baggage")
_TRACE_LIMIT = 8192

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["model", "messages"]},
                "example": {
                    "model": "assistant",
                    "messages": [{"role": "user", "content": "What can you do?"}],
                    "stream": True,
                },
            }
        },
    }
}


@router.post("/v1/chat/completions", openapi_extra=_BODY)
async def create_chat_completion(request: Request, caller: ChatCaller, platform: Platform) -> Response:
    """Answer a conversation.

    `model` is `auto`, a template name, `name@version`, or a session id, which
    continues that session; the answer's `model` is the session id. With
    `X-Stream-Events: full` the work of tools is told in `x_maruntime` objects.
    """
    if platform.lifecycle.is_stopping:
        raise Unavailable("This replica is going away")
    asked = parse_chat_request(decode_json(await request.body()))
    accepted = await _accept(platform, caller, asked, trace_of(request))
    return await responses_of(platform).respond(
        accepted,
        stream=asked.stream,
        include_usage=asked.include_usage,
        all_events=request.headers.get("X-Stream-Events") == "full",
    )


def trace_of(request: Request) -> dict[str, str]:
    """The trace headers that travel with the run; oversized ones are dropped, as their standard asks."""
    found = {name: request.headers.get(name, "") for name in _TRACE_HEADERS}
    return {
        name: value
        for name, value in found.items()
        if 0 < len(value) <= _TRACE_LIMIT and value.isascii() and value.isprintable()
    }


def responses_of(platform: Resources) -> CompletionResponses:
    """The answers of this replica."""
    return CompletionResponses(
        platform.bus, platform.dispatcher, platform.journal, platform.clock, platform.settings.http
    )


async def _accept(platform: Resources, caller: Principal, asked: ChatRequest, trace: dict[str, str]) -> Accepted:
    continued, param = _continued(asked)
    if continued is not None:
        work = WorkRequest(_newest(asked.messages), trace, _parameters(asked), asked.metadata)
        try:
            return await platform.acceptance.continue_session(caller, continued, work)
        except SessionNotFound as exc:
            raise SessionNotFound(exc.message, param=param) from exc
    work = WorkRequest(asked.messages, trace, _parameters(asked), asked.metadata)
    name, version = None, None
    if isinstance(asked.model, TemplateName):
        name, version = asked.model.name, asked.model.version
    try:
        return await platform.acceptance.open_session(caller, name, version, work)
    except ModelNotFound as exc:
        raise ModelNotFound(exc.message, param="model") from exc


def _parameters(asked: ChatRequest) -> dict[str, Any]:
    return {**asked.llm_parameters, **({"user": asked.user} if asked.user else {})}


def _continued(asked: ChatRequest) -> tuple[str | None, str]:
    named = asked.continue_session
    if isinstance(asked.model, SessionReference):
        if named is not None and named != asked.model.session_id:
            raise Invalid("model and metadata.session_id name two sessions", param="metadata.session_id")
        return asked.model.session_id, "model"
    if named is not None and not is_session_id(named):
        raise SessionNotFound(f"The session {named!r} does not exist", param="metadata.session_id")
    return named, "metadata.session_id"


def _newest(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What follows the last assistant message: the session has the rest already."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].role is Role.ASSISTANT:
            return messages[place + 1 :]
    return messages
