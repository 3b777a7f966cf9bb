"""The whole system as real processes, with a scripted LLM that each test writes for itself.

One system serves all tests of this folder. The scripted LLM is the
test-server's, served from a thread of the test process, so that a test can see
what it was asked while a run is going on.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI
from testserver.app import create_app
from testserver.case import LLMTurn
from testserver.scripted_llm import Script, ScriptedLLM
from testserver.settings import Settings
from testserver.variables import Scope

from supervisor.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests restart processes under each other: one process of the test run has them all."""
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("stack"))
            item.add_marker(pytest.mark.stack)


@dataclass
class Platform:
    """The running system, as its clients and its operator see it."""

    home: Path
    llm: ScriptedLLM
    environment: dict[str, str] = field(default_factory=dict)
    clients: list[AsyncOpenAI] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.environment["MARUNTIME_URL"]

    @property
    def key(self) -> str:
        return self.environment["MARUNTIME_API_KEY"]

    @property
    def admin_key(self) -> str:
        return self.environment["MARUNTIME_ADMIN_KEY"]

    def client(self, key: str | None = None, case: str | None = None) -> AsyncOpenAI:
        """A stock client; its requests belong to the script of `case`."""
        headers = {"baggage": f"maruntime.case={case}"} if case else {}
        client = AsyncOpenAI(
            base_url=self.url + "/v1", api_key=key or self.key, max_retries=0, timeout=60, default_headers=headers
        )
        self.clients.append(client)
        return client

    def http(self, key: str | None = None, case: str | None = None) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        if case:
            headers["baggage"] = f"maruntime.case={case}"
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60)

    async def get(self, path: str, key: str | None = None) -> Any:
        async with self.http(key) as http:
            response = await http.get(path)
        response.raise_for_status()
        return response.json()

    @contextmanager
    def script(self, *turns: dict[str, Any]) -> Iterator[tuple[str, Script]]:
        """Let the LLM answer so; gives the case's id and what was asked."""
        case = f"stack-{uuid.uuid4().hex[:12]}"
        script = Script([LLMTurn.model_validate(turn) for turn in turns], Scope({}))
        with self.llm.playing(case, script):
            yield case, script
        assert script.faults == []

    async def control(self, op: str, process: str, **options: Any) -> dict[str, Any]:
        """Tell the supervisor to do something to its processes."""
        reader, writer = await asyncio.open_unix_connection(self.environment["MARUNTIME_CONTROL"])
        writer.write(json.dumps({"op": op, "process": process, **options}).encode() + b"\n")
        await writer.drain()
        reply = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        assert reply["ok"], reply
        return reply

    async def all_ready(self) -> None:
        await self.control("wait_ready", "*", timeout=60)


async def until(check: Callable[[], Any], within: float = 20.0) -> Any:
    """Ask again and again until the answer is truthy."""
    async with asyncio.timeout(within):
        while True:
            if answer := await check():
                return answer
            await asyncio.sleep(0.05)


def tool_call(name: str, **arguments: Any) -> dict[str, Any]:
    """A turn of the scripted LLM that calls one tool."""
    return {"reply": {"tool_calls": [{"name": name, "arguments": arguments}]}}


def final_answer(answer: str, **pace: int) -> dict[str, Any]:
    """A turn that ends the run."""
    turn = tool_call("final_answer", reasoning="Done.", completed_steps=["all"], answer=answer, status="completed")
    return {**turn, "stream": pace} if pace else turn


def clarification(question: str) -> dict[str, Any]:
    """A turn that asks the user."""
    return tool_call("clarification", reasoning="Unclear.", unclear_terms=[], assumptions=[], questions=[question])


def report(title: str) -> dict[str, Any]:
    """A turn that writes a report."""
    return tool_call("create_report", reasoning="Asked for.", title=title, content="All is well.", confidence="high")


@pytest.fixture(scope="session")
def scripted_llm() -> Iterator[tuple[ScriptedLLM, str]]:
    """The scripted LLM in a thread of its own, and its base URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Settings())
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield app.state.bench.llm, f"http://127.0.0.1:{listening.getsockname()[1]}/llm/v1"
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture(scope="session")
def platform(scripted_llm: tuple[ScriptedLLM, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The whole system: embedded stores, one orchestrator, two workers."""
    llm, llm_url = scripted_llm
    home = tmp_path_factory.mktemp("stack")
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MARUNTIME", "OPENAI")) and key not in ("DATABASE_URL", "REDIS_URL", "PORT")
    }
    environment |= {"MARUNTIME_HOME": str(home), "OPENAI_BASE_URL": llm_url, "OPENAI_API_KEY": "scripted"}
    # Not the default port: another system would take it while a test restarts this one's orchestrator.
    environment["PORT"] = str(free_port())
    environment["MARUNTIME_WORKER__REMOTE_ALLOWED_PRIVATE"] = '["127.0.0.1"]'

    def supervisor(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    supervisor("up")
    try:
        lines = (line.removeprefix("export ").split("=", 1) for line in (home / "env").read_text().splitlines())
        yield Platform(home, llm, {key: value.strip("'") for key, value in lines})
    finally:
        supervisor("down")


@pytest.fixture(autouse=True)
async def _clients_closed(platform: Platform) -> AsyncIterator[None]:
    yield
    while platform.clients:
        await platform.clients.pop().close()


@pytest.fixture
async def stranger(platform: Platform) -> AsyncIterator[str]:
    """The key of another principal."""
    async with platform.http(platform.admin_key) as http:
        made = (await http.post("/admin/keys", json={"name": "stranger", "scopes": ["chat"]})).json()
        yield made["key"]
        await http.delete(f"/admin/keys/{made['id']}")


@pytest.fixture(scope="session")
def judged(shared_data: Path) -> Callable[[str, Any], None]:
    """Judge a body by OpenAI's own schemas."""
    validators: dict[str, Draft202012Validator] = {}

    def judge(name: str, body: Any) -> None:
        if name not in validators:
            schema = json.loads((shared_data / "openai_schemas" / f"{name}.json").read_text())
            validators[name] = Draft202012Validator(schema)
        validators[name].validate(body)

    return judge
