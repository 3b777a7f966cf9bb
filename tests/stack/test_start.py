"""How the processes start when something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"MARUNTIME_JOIN_TOKEN": "x" * 32, "MARUNTIME_API_KEY": "y" * 32}


def _started(module: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **KEYS, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_without_postgres_the_orchestrator_says_which_and_where_and_exits(command: str) -> None:
    port = str(free_port())
    url = f"postgresql://someone:hidden@127.0.0.1:{port}/here"

    done = _started("orchestrator", command, DATABASE_URL=url, MARUNTIME_HTTP__PORT=str(free_port()))

    assert done.returncode != 0
    [line] = done.stderr.strip().splitlines()
    assert f"127.0.0.1:{port}/here" in line
    assert "hidden" not in done.stdout + done.stderr


def test_without_an_address_of_postgres_the_setting_is_named() -> None:
    done = _started("orchestrator", "serve")

    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_a_model_the_worker_says_what_to_set() -> None:
    done = _started("agent_worker", "serve")

    assert done.returncode != 0
    assert "OPENAI_API_KEY" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_short_key_is_refused_at_start() -> None:
    done = _started("orchestrator", "serve", DATABASE_URL="postgresql://a:b@127.0.0.1:1/c", ADMIN_API_KEY="short")

    assert done.returncode != 0
    assert "ADMIN_API_KEY" in done.stderr
    assert "short" not in done.stderr.replace("should have", "")
