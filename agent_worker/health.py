"""Health without a port: a small file that the process keeps fresh and that the health command reads."""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import structlog

from agent_worker.attachment import Slot

log = structlog.get_logger()

_EVERY = 1.0
_STALE = 10.0


async def keep_fresh(path: Path, slots: Sequence[Slot]) -> None:
    """Write the file once a second, for as long as the process lives."""
    while True:
        said = {
            "pid": os.getpid(),
            "attached": sum(slot.is_attached for slot in slots),
            "running": sum(slot.is_running for slot in slots),
            "slots": len(slots),
            "at": time.time(),
        }
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.write_bytes(orjson.dumps(said))
            fresh.replace(path)
        except OSError as exc:
            log.warning("health_unwritten", reason=str(exc))  # it goes stale, which says so
        await asyncio.sleep(_EVERY)


def problem(path: Path) -> str | None:
    """Why the worker behind a health file is not well; None when it is."""
    try:
        said = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as exc:
        return f"no health file: {exc}"
    if time.time() - said["at"] > _STALE:
        return f"silent for {time.time() - said['at']:.0f} s"
    if said["attached"] == 0:
        return "attached to no orchestrator"
    return None
