"""The embedded Postgres for real."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest

from supervisor.embedded_postgres import EmbeddedPostgres
from supervisor.errors import SupervisorError

from .conftest import until


async def test_pgvector_is_there_and_the_database_is_empty(tmp_path: Path) -> None:
    """Issue 2, deliverable 2: a real Postgres with pgvector."""
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    await server.start()
    try:
        connection = await asyncpg.connect(server.url())
        before = await connection.fetchval("select count(*) from pg_extension where extname = 'vector'")
        await connection.execute("create extension vector")
        distance = await connection.fetchval("select '[1,2]'::vector <-> '[1,5]'::vector")
        fsync = await connection.fetchval("show fsync")
        await connection.close()
    finally:
        await server.stop()

    assert before == 0
    assert distance == 3
    assert fsync == "off"
    assert server.pid is None


async def test_data_survives_kill_9_and_a_new_start(tmp_path: Path) -> None:
    """Issue 2, deliverable 2: data survives restarts."""
    first = EmbeddedPostgres(tmp_path / "pg")
    await first.start()
    connection = await asyncpg.connect(first.url())
    await connection.execute("create table kept (x int); insert into kept values (7)")
    connection.terminate()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)

    second = EmbeddedPostgres(tmp_path / "pg")
    await second.start()
    try:
        connection = await asyncpg.connect(second.url())
        kept = await connection.fetchval("select x from kept")
        await connection.close()
    finally:
        await first.stop()
        await second.stop()

    assert kept == 7


async def test_a_stop_does_not_wait_for_clients(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    await server.start()
    connection = await asyncpg.connect(server.url())

    async with asyncio.timeout(10):
        await server.stop()

    await until(connection.is_closed)


async def test_a_password_is_needed_and_is_nowhere_on_a_command_line(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    await server.start()
    try:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url().replace(server.password or "?", "guessed"))
        command = Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        await server.stop()

    assert server.password
    assert server.password not in command


async def test_a_lock_file_of_a_stranger_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    """After a reboot the recorded id may belong to anybody, here to this very test."""
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    await server.start()
    await server.stop()
    (tmp_path / "pg" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path / 'pg'}\n")

    await server.start()

    await server.stop()


async def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("15\n")

    with pytest.raises(SupervisorError, match="was made by Postgres 15"):
        await EmbeddedPostgres(tmp_path / "pg").start()


async def test_a_database_can_be_copied_from_a_template(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)
    await server.start()
    try:
        await server.create_database("template_of_tests")
        await server.create_database("copy", template="template_of_tests")
        connection = await asyncpg.connect(server.url("copy"))
        name = await connection.fetchval("select current_database()")
        await connection.close()
    finally:
        await server.stop()

    assert name == "copy"


@pytest.mark.skipif(os.geteuid() != 0, reason="a plain user needs no other user")
async def test_root_without_user_namespaces_runs_it_as_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """components.md: where user namespaces are refused."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    refusing = tmp_path / "bin" / "unshare"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    server = EmbeddedPostgres(tmp_path / "pg", durable=False)

    await server.start()
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    await server.stop()

    assert owner == 65534
