"""The admin API over a real Postgres, in this process; no worker is attached."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.app import create_app
from orchestrator.resources import Resources, opened
from orchestrator.settings import OrchestratorSettings

ADMIN_KEY = "the-key-of-the-operator"


@dataclass
class Admin:
    """The API as an administrator uses it."""

    http: httpx2.AsyncClient
    resources: Resources
    app: FastAPI

    async def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        return self._read(await self.http.get(path, params=parameters), status)

    async def post(self, path: str, body: Any, status: int = 200, **headers: str) -> Any:
        return self._read(await self.http.post(path, json=body, headers=headers), status)

    async def patch(self, path: str, body: Any, status: int = 200, **headers: str) -> Any:
        return self._read(await self.http.patch(path, json=body, headers=headers), status)

    def _read(self, response: httpx2.Response, status: int) -> Any:
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture
def settings(database_url: str) -> OrchestratorSettings:
    return OrchestratorSettings.model_validate({"DATABASE_URL": database_url, "ADMIN_API_KEY": ADMIN_KEY})


@pytest.fixture
async def admin(settings: OrchestratorSettings) -> AsyncIterator[Admin]:
    async with opened(settings) as resources:
        app = create_app(resources)
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://admin", headers=headers
        ) as http:
            yield Admin(http, resources, app)


def remote_tool(name: str = "get_weather", **changes: Any) -> dict[str, Any]:
    """A tool that has nothing wrong with it."""
    return {
        "name": name,
        "description": "Tell the weather in a city now.",
        "kind": "remote",
        "remote": {"method": "GET", "url": "https://weather.example/now?city={city}"},
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
        **changes,
    }


def template(name: str = "editor", **changes: Any) -> dict[str, Any]:
    """A template that has nothing wrong with it."""
    return {
        "name": name,
        "kind": "tool_calling",
        "description": "Writes reports.",
        "tools": ["clarification", "create_report", "final_answer"],
        **changes,
    }
