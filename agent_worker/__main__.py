"""The worker's command line: `serve`, `health`."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

import structlog
import typer
import uvloop
from pydantic import ValidationError

from agent_worker import health as health_file
from agent_worker.resources import opened_slots
from agent_worker.settings import WorkerSettings
from maruntime.observability import logging

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="A maruntime agent worker.")
log = structlog.get_logger()


@cli.command()
def serve() -> None:
    """Dial an orchestrator and work on runs until SIGTERM."""
    uvloop.run(_serve(_settings()))


@cli.command()
def health() -> None:
    """Say whether the worker of this environment is attached; exit 1 when not."""
    path = os.environ.get("MARUNTIME_WORKER__HEALTH_FILE")
    problem = health_file.problem(Path(path)) if path else "MARUNTIME_WORKER__HEALTH_FILE is not set"
    if problem is not None:
        _fail(problem)


async def _serve(settings: WorkerSettings) -> None:
    draining = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, draining.set)
    async with opened_slots(settings, draining) as slots:
        log.info("worker_started", slots=len(slots), orchestrators=settings.worker.orchestrators)
        work = asyncio.gather(*(slot.serve() for slot in slots))
        beat = None
        if settings.worker.health_file is not None:
            beat = loop.create_task(health_file.keep_fresh(settings.worker.health_file, slots), name="health_file")
        stop = loop.create_task(draining.wait(), name="drain")
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("draining", running=sum(slot.is_running for slot in slots))
            await asyncio.wait({work}, timeout=settings.worker.stop_within.total_seconds())
        for task in (work, stop, beat):
            if task is not None:
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        log.info("stopped")


def _settings() -> WorkerSettings:
    try:
        settings = WorkerSettings()  # type: ignore[call-arg] - the environment gives the values
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        _fail(f"The settings are not valid: {problems}")
    logging.configure(settings.log_level, process="agent_worker")
    return settings


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"maruntime agent_worker: {message}\n")
    raise typer.Exit(1)


if __name__ == "__main__":
    cli()
