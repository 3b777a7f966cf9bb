"""Stacks of small scripts: what happens to a process, and to all of them."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor.child import Child
from supervisor.control import Control, ask
from supervisor.errors import NoSuchProcess, NotStarted, SupervisorError
from supervisor.process import State
from supervisor.stack import Job, Stack

from .conftest import Scripts, is_alive, until


def states(stack: Stack) -> dict[str, str]:
    return {process.name: process.state for process in stack.processes}


async def test_a_process_that_died_is_started_again(scripts: Scripts) -> None:
    """Issue 2, deliverable 2."""
    stack = scripts.stack([scripts.steady("one")])
    (process,) = stack.processes

    async with asyncio.timeout(20), stack.kept():
        await stack.start()
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.pid not in (None, first) and process.state is State.READY)
        restarts = process.restarts

    assert restarts == 1
    assert "one ended (killed by SIGKILL); starting it again in 0.2 s" in scripts.said


async def test_a_process_that_keeps_dying_is_started_ever_more_slowly(scripts: Scripts) -> None:
    stack = scripts.stack([scripts.spec("one", "print('ready', os.getpid())\ntime.sleep(0.3)")])
    (process,) = stack.processes

    async with asyncio.timeout(20), stack.kept():
        await stack.start()
        await until(lambda: process.restarts == 3)

    pauses = [line.split()[-2] for line in scripts.said if "starting it again" in line]
    assert pauses == ["0.2", "0.4", "0.8"]


async def test_stages_start_in_order_and_stop_in_reverse(scripts: Scripts, tmp_path: Path) -> None:
    order = tmp_path / "order"
    script = f"""
def note(word):
    with open({str(order)!r}, "a") as file:
        print(word, sys.argv[0], file=file)
def end(*_):
    note("end NAME")
    sys.exit()
signal.signal(signal.SIGTERM, end)
note("begin NAME")
print("ready", os.getpid())
while True:
    signal.pause()
"""
    stack = scripts.stack(*([scripts.spec(name, script.replace("NAME", name))] for name in ("store", "server")))

    async with asyncio.timeout(20), stack.kept():
        await stack.start()

    lines = [line.removesuffix(" -c") for line in order.read_text().splitlines()]
    assert lines == ["begin store", "begin server", "end server", "end store"]


async def test_a_process_that_will_not_end_is_forced_with_all_it_started(scripts: Scripts, tmp_path: Path) -> None:
    script = """
import subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("grandchild", grandchild.pid)
print("ready", os.getpid())
while True:
    signal.pause()
"""
    stack = scripts.stack([scripts.spec("one", script, stop_within=0.2)])

    async with asyncio.timeout(20), stack.kept():
        await stack.start()
    grandchild = int((tmp_path / "one.log").read_text().split()[1])

    await until(lambda: not is_alive(grandchild))


async def test_a_process_that_ends_before_it_is_ready_fails_the_start_with_its_last_words(scripts: Scripts) -> None:
    stack = scripts.stack([scripts.steady("store")], [scripts.spec("bad", "sys.exit('no such table')")])

    with pytest.raises(NotStarted, match=r"bad did not start \(exit code 1\)") as caught:
        async with asyncio.timeout(20), stack.kept():
            await stack.start()

    assert caught.value.log == "no such table"
    assert set(states(stack).values()) == {"stopped"}


async def test_a_process_that_never_gets_ready_fails_the_start_in_time(scripts: Scripts) -> None:
    stack = scripts.stack([scripts.spec("slow", "print('still here')\nsignal.pause()", ready_within=1.0)])

    with pytest.raises(NotStarted, match="slow was not ready within 1 s") as caught:
        async with asyncio.timeout(20), stack.kept():
            await stack.start()

    assert caught.value.log == "still here"


async def test_a_job_that_fails_keeps_the_next_stage_from_starting(scripts: Scripts, tmp_path: Path) -> None:
    job = Job(
        name="migrate",
        command=[sys.executable, "-c", "raise SystemExit('cannot')"],
        environment={},
        directory=tmp_path,
        log=tmp_path / "migrate.log",
    )
    stack = scripts.stack([job], [scripts.steady("server")])

    with pytest.raises(NotStarted, match="migrate failed with exit code 1") as caught:
        async with asyncio.timeout(20), stack.kept():
            await stack.start()

    assert caught.value.log == "cannot"
    assert not (tmp_path / "server.log").exists()


class Talk:
    """A control socket with a client that asks from a thread, as another process would."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, **request: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self._path, request, timeout=20)


async def test_a_glob_reaches_every_process_that_matches_and_no_other(scripts: Scripts, tmp_path: Path) -> None:
    stack = scripts.stack([scripts.steady(name) for name in ("worker-1", "worker-2", "redis")])
    talk, path = Talk(tmp_path / "socket"), tmp_path / "socket"

    async with asyncio.timeout(20), stack.kept(), Control(stack, lambda: None).served(path):
        await stack.start()
        before = {process.name: process.pid for process in stack.processes}
        killed = await talk(op="kill", process="worker-*")
        ready = await talk(op="wait_ready", process="worker-*", timeout=10)
        after = {process.name: process.pid for process in stack.processes}

    assert killed["ok"]
    assert [process["state"] for process in ready["processes"]] == ["ready"] * 3
    assert [process["restarts"] for process in ready["processes"]] == [1, 1, 0]
    assert {name for name in before if before[name] != after[name]} == {"worker-1", "worker-2"}


async def test_a_paused_process_does_nothing_until_it_is_resumed(scripts: Scripts, tmp_path: Path) -> None:
    stack = scripts.stack([scripts.steady("worker-1")])
    talk, path = Talk(tmp_path / "socket"), tmp_path / "socket"
    (process,) = stack.processes

    async with asyncio.timeout(20), stack.kept(), Control(stack, lambda: None).served(path):
        await stack.start()
        stat = Path(f"/proc/{process.pid}/stat")
        paused = await talk(op="pause", process="worker-1")
        await until(lambda: stat.read_text().split()[2] == "T")
        resumed = await talk(op="resume", process="worker-1")
        await until(lambda: stat.read_text().split()[2] == "S")
        await talk(op="pause", process="worker-1")

    assert paused["processes"][0]["state"] == "paused"
    assert resumed["processes"][0]["state"] == "ready"


async def test_a_stopped_process_stays_down_until_it_is_started(scripts: Scripts, tmp_path: Path) -> None:
    stack = scripts.stack([scripts.steady("worker-1")])
    talk, path = Talk(tmp_path / "socket"), tmp_path / "socket"

    async with asyncio.timeout(20), stack.kept(), Control(stack, lambda: None).served(path):
        await stack.start()
        stopped = await talk(op="stop", process="worker-1")
        impossible = await talk(op="kill", process="worker-1")
        late = await talk(op="wait_ready", process="worker-1", timeout=0.1)
        started = await talk(op="start", process="worker-1", wait=True)

    assert stopped["processes"] == [{"name": "worker-1", "pid": None, "state": "stopped", "restarts": 0}]
    assert impossible == {"ok": False, "error": "worker-1 is not running."}
    assert late == {"ok": False, "error": "Not ready after 0.1 s: worker-1 is stopped."}
    assert started["processes"][0]["state"] == "ready"


async def test_a_restart_ends_the_old_process_before_the_new_one_begins(scripts: Scripts, tmp_path: Path) -> None:
    stack = scripts.stack([scripts.steady("worker-1")])
    talk, path = Talk(tmp_path / "socket"), tmp_path / "socket"
    (process,) = stack.processes

    async with asyncio.timeout(20), stack.kept(), Control(stack, lambda: None).served(path):
        await stack.start()
        old = process.pid
        reply = await talk(op="restart", process="worker-1", wait=True)
        assert old is not None
        gone, new = not is_alive(old), process.pid

    assert gone
    assert reply["processes"][0] == {"name": "worker-1", "pid": new, "state": "ready", "restarts": 1}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense\n", "A request is one JSON object on one line."),
        (b"[1]\n", "A request is one JSON object on one line."),
        (b'{"op": "kill"}\n', 'This op needs "process": a name or a glob such as "worker-*".'),
        (b'{"op": "kill", "process": "nobody"}\n', "No process is named 'nobody'; there are worker-1."),
        (b'{"op": "wait_ready", "process": "*", "timeout": "x"}\n', '"timeout" is a number of seconds above 0.'),
    ],
)
async def test_a_request_that_makes_no_sense_is_told_why(
    scripts: Scripts, tmp_path: Path, line: bytes, error: str
) -> None:
    stack, path = scripts.stack([scripts.steady("worker-1")]), tmp_path / "socket"

    async with asyncio.timeout(20), stack.kept(), Control(stack, lambda: None).served(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        reply = await reader.readline()
        writer.close()

    assert error in reply.decode().replace('\\"', '"')


async def test_shutdown_is_answered_and_passed_on(scripts: Scripts, tmp_path: Path) -> None:
    stack, path, asked = scripts.stack([scripts.steady("worker-1")]), tmp_path / "socket", asyncio.Event()

    async with asyncio.timeout(20), stack.kept(), Control(stack, asked.set).served(path):
        reply = await Talk(path)(op="shutdown")

    assert reply["ok"]
    assert asked.is_set()


def test_a_name_that_matches_nothing_is_an_error(scripts: Scripts) -> None:
    with pytest.raises(NoSuchProcess):
        scripts.stack([scripts.steady("worker-1")]).matching("worker-9")


async def test_a_child_whose_parent_died_before_the_leash_was_on_does_not_start(tmp_path: Path) -> None:
    """The race between fork and prctl: the parent's id is compared."""
    environment = {"PATH": os.environ["PATH"]}
    child = Child.spawn(["true"], environment=environment, directory=tmp_path)
    assert await child.ended() == 0
    orphan = Child.spawn(
        ["true"], environment=environment, directory=tmp_path, wrapper=["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    )

    assert await orphan.ended() == 125


async def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match="Cannot execute /no/such/program"):
        Child.spawn(["true"], environment={}, directory=tmp_path, wrapper=["/no/such/program"])
