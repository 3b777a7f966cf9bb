"""R20, R23: the command line gives exit codes and reports that CI can use."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import httpx2
import pytest
from testserver.settings import CHECKOUT, Settings

MAIN = CHECKOUT / "test-server" / "main.py"


async def run(*arguments: str) -> tuple[int, str]:
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAIN), *arguments, env=environment, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_all_cases_pass_and_the_reports_are_written(bench: Callable, tmp_path: Path):
    folder = tmp_path / "cases"
    folder.mkdir()
    for name in ("smoke", "instance_reuse"):
        (folder / f"{name}.yaml").write_text((CHECKOUT / "cases" / f"{name}.yaml").read_text())
    opened = await bench(cases_dir=folder)

    code, out = await run("run", "--url", opened.url, "--junit", str(tmp_path / "r" / "junit.xml"))

    assert code == 0, out
    assert "2 of 2 passed" in out
    suite = ElementTree.parse(tmp_path / "r" / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == suite.get("errors") == "0"
    assert {case.get("name") for case in suite.findall("testcase")} >= {"smoke", "instance_reuse"}


async def test_a_failed_case_is_exit_code_1_with_its_difference(bench: Callable, tmp_path: Path):
    opened = await bench({"twice"})

    code, out = await run("run", "--url", opened.url, "--case", "smoke", "--json", str(tmp_path / "v.json"))

    assert code == 1
    assert "smoke" in out
    assert "expected" in out
    assert b'"passed": false' in (tmp_path / "v.json").read_bytes()


async def test_a_tag_selects(bench: Callable):
    opened = await bench()

    code, out = await run("run", "--url", opened.url, "--tag", "basic")

    assert code == 0
    assert "1 of 1 passed" in out


@pytest.mark.parametrize("selection", [("--case", "nobody"), ("--tag", "nothing")])
async def test_a_selection_of_nothing_is_exit_code_2(bench: Callable, selection: tuple[str, str]):
    opened = await bench()

    code, _ = await run("run", "--url", opened.url, *selection)

    assert code == 2


async def test_no_server_is_exit_code_2():
    code, out = await run("run", "--url", "http://127.0.0.1:9")

    assert code == 2
    assert "no test server answers" in out


async def test_serve_answers_on_its_port_and_stops_on_a_signal():
    environment = {"PATH": os.environ["PATH"], "TEST_SERVER_PORT": str(free_port())}
    process = await asyncio.create_subprocess_exec(sys.executable, str(MAIN), "serve", env=environment)
    try:
        async with asyncio.timeout(30), httpx2.AsyncClient() as client:
            health = await answered(client, f"http://127.0.0.1:{environment['TEST_SERVER_PORT']}/health")
    finally:
        process.terminate()
        async with asyncio.timeout(10):
            await process.wait()

    assert health == {"status": "ok", "stack": None, "control": False}


def test_the_environment_is_read_as_documented():
    environ = {"TEST_SERVER_PORT": "1", "CASES_DIR": "/c", "MARUNTIME_URL": "http://u", "MARUNTIME_CONTROL": ""}

    settings = Settings.from_environ(environ)

    assert (settings.host, settings.port, settings.cases_dir) == ("127.0.0.1", 1, Path("/c"))
    assert (settings.stack.url, settings.stack.control) == ("http://u", None)


def test_the_test_server_imports_nothing_of_the_platform():
    sources = [file.read_text() for file in (CHECKOUT / "test-server").rglob("*.py")]

    for package in ("maruntime", "orchestrator", "agent_worker", "supervisor"):
        assert not any(f"import {package}" in text or f"from {package}" in text for text in sources)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def answered(client: httpx2.AsyncClient, url: str) -> dict:
    """Ask until the server listens; the caller bounds it."""
    while True:
        try:
            return (await client.get(url)).json()
        except httpx2.ConnectError:
            await asyncio.sleep(0.05)
