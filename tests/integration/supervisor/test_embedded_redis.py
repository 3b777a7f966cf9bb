"""The embedded Redis for real: the program of the package, and Debian's where it is installed."""

import os
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from supervisor.embedded_redis import EmbeddedRedis, installed_program, packaged_program


@pytest.fixture(params=["packaged", "installed"])
def program(request: pytest.FixtureRequest) -> Path:
    if request.param == "packaged":
        return packaged_program()
    program = installed_program()
    if program is None:
        assert not os.environ.get("CI"), "deploy/ci-packages installs redis-server"
        pytest.skip("NOT TESTED with redis-server: it is not installed (deploy/ci-packages installs it)")
    return program


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path, program: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", program=program)
    await server.start()
    client: Redis = Redis.from_url(server.url)
    await client.set("kept", "7")
    await client.aclose()
    await server.stop()

    await server.start()
    client = Redis.from_url(server.url)
    kept = await client.get("kept")
    await client.aclose()
    await server.stop()

    assert kept == b"7"


async def test_a_forgetful_server_writes_nothing(tmp_path: Path, program: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", durable=False, program=program)
    await server.start()
    client: Redis = Redis.from_url(server.url)
    await client.set("x", "7")
    await client.aclose()
    await server.stop()

    assert {path.name for path in (tmp_path / "redis").rglob("*") if path.is_file()} == {"server.conf", "server.log"}


async def test_a_password_is_needed(tmp_path: Path, program: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis", durable=False, program=program)
    await server.start()
    client: Redis = Redis(host="127.0.0.1", port=server.port, retry=Retry(NoBackoff(), 0))
    try:
        with pytest.raises(AuthenticationError):
            await client.get("x")
    finally:
        await client.aclose()
        await server.stop()


def test_an_installed_program_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert installed_program() is None
