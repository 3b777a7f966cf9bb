"""What routes ask for: the resources, and the caller with the scope that the route needs."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from maruntime.domain.principal import Principal, Scope
from orchestrator.resources import Resources


def _resources(request: Request) -> Resources:
    return request.app.state.resources


Platform = Annotated[Resources, Depends(_resources)]


def _requires(scope: Scope) -> Callable[[Request, Resources], Awaitable[Principal]]:
    async def authenticated(request: Request, platform: Platform) -> Principal:
        return await platform.keys.authenticate(_key_of(request), scope)

    return authenticated


def _key_of(request: Request) -> str | None:
    authorization = request.headers.get("Authorization", "")
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return request.headers.get("X-API-Key") or request.headers.get("X-Internal-Auth")


ChatCaller = Annotated[Principal, Depends(_requires(Scope.CHAT))]
AdminCaller = Annotated[Principal, Depends(_requires(Scope.ADMIN))]
