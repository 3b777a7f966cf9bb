"""A thousand runs in a row: does anything grow?

Starts a system of its own (embedded stores, one orchestrator, one worker, the
scripted LLM) in a throw-away folder, sends runs one after another, and compares
memory, descriptors and database connections after run 200 and after the last.

    .venv/bin/python bench/long_run.py [--runs 1000]

Resident memory is read from /proc/<pid>/status (RssAnon: what the process
itself holds), descriptors from /proc/<pid>/fd, connections from
pg_stat_activity. Each reading is taken when nothing runs, and is the median of
five.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from openai import AsyncOpenAI

ROOT = Path(__file__).parent.parent
WARM_UP = 200


@dataclass(frozen=True)
class Reading:
    """What one process holds."""

    memory_kib: float
    descriptors: int


@dataclass(frozen=True)
class Readings:
    """What the system holds at one moment."""

    processes: dict[str, Reading]
    connections: int


def _supervisor(home: str, *words: str) -> str:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("MARUNTIME", "OPENAI"))},
        "MARUNTIME_HOME": home,
        "WORKERS": "1",
    }
    environment.pop("DATABASE_URL", None)
    environment.pop("REDIS_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"supervisor {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _environment(home: str) -> dict[str, str]:
    lines = (Path(home) / "env").read_text().splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines if "=" in line)
    return {key: value.strip("'") for key, value in pairs}


async def _pids(control: str) -> dict[str, int]:
    reader, writer = await asyncio.open_unix_connection(control)
    writer.write(b'{"op": "status"}\n')
    await writer.drain()
    reply = json.loads(await reader.readline())
    writer.close()
    return {
        process["name"]: process["pid"]
        for process in reply["processes"]
        if process["name"].startswith(("orchestrator", "worker"))
    }


def _reading(pid: int) -> Reading:
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return Reading(float(memory.split()[1]), len(os.listdir(f"/proc/{pid}/fd")))


async def _readings(pids: dict[str, int], database: asyncpg.Connection) -> Readings:
    samples: dict[str, list[Reading]] = {name: [] for name in pids}
    connections = []
    for _ in range(5):
        await asyncio.sleep(1)
        for name, pid in pids.items():
            samples[name].append(_reading(pid))
        connections.append(
            await database.fetchval("select count(*) from pg_stat_activity where backend_type = 'client backend'")
        )
    return Readings(
        {
            name: Reading(
                statistics.median(sample.memory_kib for sample in taken),
                round(statistics.median(sample.descriptors for sample in taken)),
            )
            for name, taken in samples.items()
        },
        round(statistics.median(connections)),
    )


async def _run(client: AsyncOpenAI, number: int) -> None:
    """One run: by turns streamed and whole, with and without a tool, of both templates."""
    template = ("assistant", "sgr_assistant")[number % 2]
    text = f"Write a report about number {number}" if number % 3 == 0 else f"Say {number}"
    messages = [{"role": "user", "content": text}]
    if number % 4 < 2:
        stream = await client.chat.completions.create(model=template, messages=messages, stream=True)  # type: ignore[call-overload]
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    else:
        whole = await client.chat.completions.create(model=template, messages=messages)  # type: ignore[call-overload]
        said = whole.choices[0].message.content or ""
    if str(number) not in said:
        sys.exit(f"run {number} answered {said!r}")


async def _measure(environment: dict[str, str], runs: int) -> bool:
    client = AsyncOpenAI(
        base_url=environment["MARUNTIME_URL"] + "/v1", api_key=environment["MARUNTIME_API_KEY"], max_retries=0
    )
    database = await asyncpg.connect(environment["DATABASE_URL"])
    pids = await _pids(environment["MARUNTIME_CONTROL"])
    began, early = time.monotonic(), None
    for number in range(1, runs + 1):
        await _run(client, number)
        if number == WARM_UP:
            early = await _readings(pids, database)
    late = await _readings(pids, database)
    assert early is not None
    await database.close()
    print(f"{runs} runs in {time.monotonic() - began:.0f} s\n")
    print(f"| process | memory after {WARM_UP} (KiB) | after {runs} | ratio | descriptors | after {runs} |")
    print("|---|---|---|---|---|---|")
    passed = early.connections == late.connections
    for name, before in early.processes.items():
        after = late.processes[name]
        ratio = after.memory_kib / before.memory_kib
        passed &= ratio <= 1.05 and before.descriptors == after.descriptors
        print(
            f"| {name} | {before.memory_kib:.0f} | {after.memory_kib:.0f} | {ratio:.3f} "
            f"| {before.descriptors} | {after.descriptors} |"
        )
    print(f"| database connections | {early.connections} | {late.connections} | | | |")
    print(f"\n{'reached' if passed else 'NOT REACHED'}: memory <= 1.05, descriptors and connections equal")
    return passed


def main() -> None:
    """Run the measurement; exit 1 when something grows."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=1000)
    runs = arguments.parse_args().runs
    if runs <= WARM_UP:
        sys.exit(f"--runs must be more than {WARM_UP}")
    with tempfile.TemporaryDirectory(prefix="maruntime-bench-") as home:
        _supervisor(home, "up")
        try:
            passed = asyncio.run(_measure(_environment(home), runs))
        finally:
            _supervisor(home, "down")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
