import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from agent_worker.health import keep_fresh, problem

ROOT = Path(__file__).parents[3]


class Slot:
    """What the file counts."""

    def __init__(self, *, is_attached=True, is_running=False):
        self.is_attached = is_attached
        self.is_running = is_running


async def written(path, *slots):
    """The file as the worker writes it."""
    task = asyncio.create_task(keep_fresh(path, slots))
    async with asyncio.timeout(5):
        while not path.exists():
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return orjson.loads(path.read_bytes())


def command(path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MARUNTIME_")}
    if path is not None:
        environment["MARUNTIME_WORKER__HEALTH_FILE"] = str(path)
    done = subprocess.run(
        [sys.executable, "-m", "agent_worker", "health"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


async def test_a_fresh_file_of_an_attached_worker_is_well(tmp_path):
    path = tmp_path / "health"
    said = await written(path, Slot(is_running=True), Slot(), Slot(is_attached=False))

    assert (said["slots"], said["attached"], said["running"], said["pid"]) == (3, 2, 1, os.getpid())
    assert problem(path) is None
    assert list(tmp_path.iterdir()) == [path]
    assert command(path) == (0, "")


async def test_a_stale_file_is_told(tmp_path):
    path = tmp_path / "health"
    said = await written(path, Slot())
    path.write_bytes(orjson.dumps(said | {"at": time.time() - 60}))

    code, told = command(path)

    assert code == 1
    assert re.search(r"silent for 6\d s", told)


def test_an_absent_file_is_told(tmp_path):
    code, told = command(tmp_path / "nothing")

    assert (code, told.count("\n")) == (1, 1)
    assert "no health file" in told


def test_a_missing_setting_is_told():
    assert command(None) == (1, "maruntime agent_worker: MARUNTIME_WORKER__HEALTH_FILE is not set\n")


async def test_a_worker_that_is_attached_nowhere_is_not_well(tmp_path):
    await written(tmp_path / "health", Slot(is_attached=False))

    assert problem(tmp_path / "health") == "attached to no orchestrator"


def test_a_file_that_is_not_json_is_told(tmp_path):
    (tmp_path / "health").write_text("{")

    assert "no health file" in problem(tmp_path / "health")
