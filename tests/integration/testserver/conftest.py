"""Real servers on free ports, inside the test's own loop."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import uvicorn
from fastapi import FastAPI
from testserver.app import create_app
from testserver.settings import Settings

from tests.integration.testserver.fake_gateway import ADMIN_KEY, KEY, FakeControl, FakeGateway

CHECKOUT = Path(__file__).resolve().parents[3]


def bound() -> tuple[socket.socket, str]:
    """A listening socket and its URL: clients may connect before the server accepts."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    return listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def served(*pairs: tuple[FastAPI, socket.socket]) -> AsyncIterator[None]:
    """Serve the apps, and stop them all at once."""
    servers = [uvicorn.Server(config_of(app)) for app, _ in pairs]
    tasks = [
        asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
        for server, (_, listening) in zip(servers, pairs, strict=True)
    ]
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
        for _, listening in pairs:
            listening.close()


def config_of(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)


@dataclass
class Bench:
    """A test server, the fake stack that it judges, and the socket that breaks it."""

    url: str
    gateway: FakeGateway
    control: FakeControl
    app: FastAPI


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Callable]:
    """Open a bench: `await bench({"twice"}, cases_dir=…, control=False)`."""
    async with AsyncExitStack() as stack:

        async def open_bench(
            flaws: set[str] = frozenset(), cases_dir: Path = CHECKOUT / "cases", **stack_settings
        ) -> Bench:
            (llm_socket, llm_url), (gateway_socket, gateway_url) = bound(), bound()
            control = FakeControl(tmp_path / "control.sock")
            control_server = await control.serve()
            stack.callback(control_server.close)
            known = {"url": gateway_url, "api_key": KEY, "admin_key": ADMIN_KEY, "control": control.path}
            settings = Settings.model_validate({"cases_dir": cases_dir, "stack": {**known, **stack_settings}})
            gateway = FakeGateway(f"{llm_url}/llm/v1", set(flaws))
            app = create_app(settings)
            await stack.enter_async_context(served((app, llm_socket), (gateway.app(), gateway_socket)))
            return Bench(llm_url, gateway, control, app)

        yield open_bench


@pytest.fixture
def openai_schema() -> Callable[[str], jsonschema.Draft202012Validator]:
    """OpenAI's own schemas; the folder is not part of this project."""
    folder = Path(os.environ.get("MARUNTIME_SHARED_DATA") or CHECKOUT.parent / "shared" / "data") / "openai_schemas"

    def load(name: str) -> jsonschema.Draft202012Validator:
        file = folder / f"{name}.json"
        if not file.exists():
            pytest.skip(f"NOT JUDGED BY OPENAI'S SCHEMAS: {file.name} is not in $MARUNTIME_SHARED_DATA/openai_schemas")
        return jsonschema.Draft202012Validator(json.loads(file.read_text()))

    return load
