"""Show the logs of the processes, once or as they grow."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from supervisor.errors import NoSuchProcess
from supervisor.home import Home

_LINES_SHOWN, _LINES_QUOTED, _BYTES_READ = 50, 20, 200_000
_POLL_SECONDS = 0.2


def show(home: Home, pattern: str, *, follow: bool) -> None:
    """Print the last lines of every log whose process matches a glob; with `follow`, what comes after for ever.

    Raises:
        NoSuchProcess: no log matches.
    """
    paths = sorted(home.logs.glob(f"{pattern}.log"))
    if not paths:
        raise NoSuchProcess(f"There is no log of {pattern!r} in {home.logs}.")
    width = max(len(path.stem) for path in paths)
    ends = {
        path: _print(path, max(0, path.stat().st_size - _BYTES_READ), width, at_most=_LINES_SHOWN) for path in paths
    }
    while follow:
        time.sleep(_POLL_SECONDS)
        for path in sorted(home.logs.glob(f"{pattern}.log")):
            start = ends.get(path, 0)
            rotated = path.stat().st_size < start
            ends[path] = _print(path, 0 if rotated else start, width)


def last_lines(log: Path, offset: int = 0) -> str:
    """The last lines that a log got after `offset`, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - _BYTES_READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_LINES_QUOTED:])


def _print(path: Path, start: int, width: int, *, at_most: int | None = None) -> int:
    """Print whole lines from `start` on and return where the next unread one begins."""
    with path.open("rb") as log:
        log.seek(start)
        lines = _whole_lines(log)
    for line in lines[-at_most:] if at_most else lines:
        sys.stdout.write(f"{path.stem:<{width}} | {line.decode(errors='replace')}")
    sys.stdout.flush()
    return start + sum(map(len, lines))


def _whole_lines(log: BinaryIO) -> Sequence[bytes]:
    lines = log.readlines()
    return lines[:-1] if lines and not lines[-1].endswith(b"\n") else lines
