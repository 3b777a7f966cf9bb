"""The whole supervisor as a person meets it, around stand-ins for our own processes."""

import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from supervisor.ports import free_port

from .conftest import Checkout, fetched, is_alive, until

_NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_run_brings_everything_up_in_order_and_a_signal_takes_it_down(checkout: Checkout) -> None:
    """Issue 2, deliverable 2."""
    async with checkout.running() as process:
        names = list(checkout.states())
        pids = checkout.processes()
        output = checkout.announced(process)
        process.send_signal(signal.SIGINT)
        output += checkout.end(process)

    assert names == ["postgres", "redis", "test-server", "orchestrator-1", "worker-1", "worker-2"]
    assert process.returncode == 0
    assert len(pids) > len(names)
    assert not [pid for pid in pids if is_alive(pid)]
    assert not checkout.processes()
    ready = [line.split()[0] for line in output.splitlines() if " ready (pid" in line]
    assert set(ready[:2]) == {"postgres", "redis"}
    assert ready[2:4] == ["test-server", "orchestrator-1"]
    assert set(ready[4:]) == {"worker-1", "worker-2"}
    assert "the scripted LLM answers" in output


async def test_a_second_ctrl_c_ends_everything_at_once(checkout: Checkout) -> None:
    async with checkout.running() as process:
        checkout.announced(process)
        process.send_signal(signal.SIGINT)
        await until(lambda: "Stopping" in (process.stdout.readline() if process.stdout else ""))
        process.send_signal(signal.SIGINT)
        process.wait()
        await until(lambda: not checkout.processes())


async def test_kill_9_of_the_supervisor_leaves_no_process_behind(checkout: Checkout) -> None:
    """Issue 2, done when."""
    async with checkout.running() as process:
        before = checkout.processes()
        process.kill()
        process.wait()

        await until(lambda: not checkout.processes())

    assert len(before) > 6


async def test_a_start_right_after_kill_9_keeps_the_data_and_the_keys(checkout: Checkout) -> None:
    """Issue 2, deliverable 2: data survives restarts."""
    async with checkout.running() as process:
        first = checkout.sourced()
        process.kill()
        process.wait()

    # As from a shell that sourced the env file of the first life: its stores are still ours to start.
    async with checkout.running(**first):
        second = checkout.sourced()
        states = checkout.states()

    assert {"postgres", "redis"} <= set(states)
    for name in ("MARUNTIME_API_KEY", "MARUNTIME_ADMIN_KEY"):
        assert second[name] == first[name]
    password = first["DATABASE_URL"].split("@")[0]
    assert second["DATABASE_URL"].startswith(password)


async def test_every_file_of_the_home_is_private(checkout: Checkout) -> None:
    """Issue 2, deliverable 2: a generated key in a git-ignored folder with mode 0600."""
    async with checkout.running():
        home = checkout.home
        sourced = checkout.sourced()
        control = Path(sourced["MARUNTIME_CONTROL"])
        modes = {path.name: mode(path) for path in (home.env, home.secrets, control)}
        logs = [mode(path) for path in home.logs.iterdir()]

    assert modes == {"env": 0o600, "secrets": 0o600, "control.sock": 0o600}
    assert mode(home.root) == 0o700
    assert set(logs) == {0o600}
    assert {
        "MARUNTIME_URL",
        "MARUNTIME_API_KEY",
        "MARUNTIME_ADMIN_KEY",
        "MARUNTIME_TEST_SERVER_URL",
        "MARUNTIME_CONTROL",
        "DATABASE_URL",
        "REDIS_URL",
    } <= set(sourced)


async def test_each_process_sees_its_own_secrets_and_no_others(checkout: Checkout) -> None:
    """Architecture §7: workers and the test-server have no database credentials."""
    async with checkout.running(MARUNTIME_POOL__LEASE="7", CRM_TOKEN="kept"):
        known = checkout.sourced()
        orchestrator = fetched(f"{known['MARUNTIME_URL']}/environment")
        test_server = fetched(f"{known['MARUNTIME_TEST_SERVER_URL']}/environment")
        worker = json.loads((checkout.home.run / "worker-1.environment").read_text())

    secrets = json.loads(checkout.home.secrets.read_text())
    assert orchestrator["DATABASE_URL"] == known["DATABASE_URL"]
    assert orchestrator["MARUNTIME_JOIN_TOKEN"] == worker["MARUNTIME_JOIN_TOKEN"] == secrets["join_token"]
    assert orchestrator["MARUNTIME_POOL__LEASE"] == worker["MARUNTIME_POOL__LEASE"] == "7"
    assert worker["CRM_TOKEN"] == "kept"
    assert worker["OPENAI_BASE_URL"] == f"{known['MARUNTIME_TEST_SERVER_URL']}/llm/v1"
    assert worker["MARUNTIME_WORKER__ORCHESTRATORS"] == f"127.0.0.1:{orchestrator['MARUNTIME_FABRIC__PORT']}"
    assert test_server["MARUNTIME_CONTROL"] == known["MARUNTIME_CONTROL"]
    stores = {known["DATABASE_URL"], known["REDIS_URL"]}
    private = {secrets["admin_key"], secrets["internal_key"], secrets["api_key"], known["MARUNTIME_CONTROL"]}
    assert not (stores | private) & set(worker.values())
    assert not (stores | {secrets["join_token"], secrets["internal_key"]}) & set(test_server.values())


async def test_a_port_that_was_asked_for_and_is_taken_is_refused_in_one_line(checkout: Checkout) -> None:
    """Issue 2, deliverable 2: ports are refused with a clear message."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused = checkout.call("run", PORT=str(port))

    assert refused.returncode == 1
    assert refused.stdout.strip().startswith(f"Port {port} on 127.0.0.1 is already in use.")
    assert len(refused.stdout.strip().splitlines()) == 1


async def test_a_failed_start_shows_the_log_and_leaves_nothing_running(checkout: Checkout) -> None:
    failed = checkout.call("run", BREAK_MIGRATE="1")

    assert failed.returncode == 1
    assert "the migration broke" in failed.stdout
    assert failed.stdout.strip().endswith("migrate failed with exit code 1.")
    assert not checkout.processes()


async def test_a_missing_postgres_of_the_user_is_one_line_that_names_the_place(checkout: Checkout) -> None:
    """Issue 2, bad input."""
    port = free_port()

    failed = checkout.call("run", DATABASE_URL=f"postgresql+asyncpg://u:sesame@127.0.0.1:{port}/x")

    assert failed.returncode == 1
    assert f"Postgres at 127.0.0.1:{port} (DATABASE_URL) does not answer." in failed.stdout
    assert "sesame" not in failed.stdout


async def test_up_status_logs_down_and_clean_do_the_same_in_the_background(checkout: Checkout) -> None:
    """Issue 2, deliverable 2."""
    assert checkout.call("status").returncode == 3

    up = checkout.call("up")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        status, logs = checkout.call("status"), checkout.call("logs", "orchestrator-*")
        again, clean = checkout.call("up"), checkout.call("clean")
        foreground = checkout.call("run")
    finally:
        down = checkout.call("down")

    assert "maruntime answers at" in up.stdout
    assert status.returncode == 0
    assert "worker-2" in status.stdout
    assert "orchestrator-1 | listening on" in logs.stdout
    assert again.returncode == clean.returncode == foreground.returncode == 1
    assert "already runs" in again.stdout
    assert "already runs" in foreground.stdout
    assert "make down" in clean.stdout
    assert down.returncode == 0
    assert not checkout.processes()
    assert checkout.call("down").returncode == 0

    assert checkout.call("clean").returncode == 0
    assert not checkout.home.root.exists()


async def test_a_system_in_the_background_that_fails_says_why(checkout: Checkout) -> None:
    failed = checkout.call("up", BREAK_MIGRATE="1")

    assert failed.returncode == 1
    assert "the migration broke" in failed.stdout


@pytest.mark.parametrize(("case", "code"), [("smoke", 0), ("broken", 1)])
async def test_itest_runs_the_client_against_a_system_of_its_own(checkout: Checkout, case: str, code: int) -> None:
    """Issue 2, deliverable 9: what the user's shell names is not touched."""
    result = checkout.call("itest", CASE=case, DATABASE_URL="postgresql://127.0.0.1:1/precious", PORT="1")

    assert result.returncode == code, result.stdout + result.stderr
    report = checkout.root / "reports" / "itest.xml"
    assert f"arguments: --case {case} --junit {report}" in result.stdout
    assert not checkout.processes()


async def test_itest_goes_to_a_system_that_already_runs_when_told(checkout: Checkout) -> None:
    async with checkout.running():
        url = checkout.sourced()["MARUNTIME_TEST_SERVER_URL"]
        result = checkout.call("itest", MARUNTIME_TEST_SERVER_URL=url, TAG="fast")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "arguments: --tag fast" in result.stdout
    assert "ready (pid" not in result.stdout


async def test_a_long_path_moves_the_control_socket_where_the_kernel_takes_it(checkout: Checkout) -> None:
    checkout.home_name = "long" * 30

    async with checkout.running(WORKERS="1") as process:
        first = checkout.home.holder()
        assert first is not None
        private, is_socket = mode(first.control.parent), first.control.is_socket()
        process.kill()
        process.wait()
    async with checkout.running(WORKERS="1"):
        second = checkout.home.holder()
        assert second is not None

    assert is_socket
    assert private == 0o700
    assert not first.control.parent.exists()
    assert not second.control.parent.exists()


async def test_the_control_socket_restarts_and_waits(checkout: Checkout) -> None:
    """Issue 2, deliverable 9: the clarification case restarts orchestrator and workers."""
    async with checkout.running():
        before = checkout.pids()
        restarted = checkout.ask(op="restart", process="orchestrator-*", wait=True)
        killed = checkout.ask(op="kill", process="worker-*")
        waited = checkout.ask(op="wait_ready", process="*", timeout=30)
        store = checkout.ask(op="kill", process="postgres")
        store_again = checkout.ask(op="wait_ready", process="postgres", timeout=30)
        after = checkout.pids()

    for reply in (restarted, killed, waited, store, store_again):
        assert reply["ok"], reply
    changed = {name for name, pid in before.items() if after[name] != pid}
    assert changed == {"orchestrator-1", "worker-1", "worker-2", "postgres"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_plain_user_runs_it_too(checkout: Checkout) -> None:
    """components.md: for root and not. Passing through directories is all that this user may do besides."""
    for path in (checkout.root, *checkout.root.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    checkout.prefix = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    checkout.prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]

    async with checkout.running() as process:
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in checkout.processes()}
        process.kill()
        process.wait()
        await until(lambda: not checkout.processes())

    assert owners == {_NOBODY}
