"""What the person at the terminal reads: one line per event, coloured only on a terminal."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

READY_MARK = "\x04ready"


class Screen:
    """Writes to the terminal, and to whoever waits in the foreground for a system in the background."""

    def __init__(self, *, watcher: int | None = None) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._watcher = watcher

    def say(self, line: str, style: str = "") -> None:
        """Show one line."""
        self._console.print(Text(line, style=style))
        self._tell(line)

    def section(self, line: str) -> None:
        """Show one line that matters more."""
        self.say(line, "bold")

    def warn(self, line: str) -> None:
        """Show one line that should not be missed."""
        self.say(line, "yellow")

    def failed(self, line: str, log: str = "") -> None:
        """Show why it ended, with the last lines of the log that tells more."""
        if log:
            self.say(log, "dim")
        self.say(line, "bold red")

    def release_watcher(self) -> None:
        """Tell the one who waits in the foreground that the system is ready."""
        self._tell(READY_MARK)
        if self._watcher is not None:
            os.close(self._watcher)
            self._watcher = None

    def _tell(self, line: str) -> None:
        if self._watcher is not None:
            with suppress(OSError):
                os.write(self._watcher, line.encode() + b"\n")


def print_status(processes: Sequence[Mapping[str, Any]]) -> None:
    """Print the process table."""
    table = Table("process", "state", "pid", "restarts", box=None)
    colours = {"ready": "green", "starting": "yellow", "paused": "yellow", "stopped": "red"}
    for process in processes:
        state = Text(process["state"], style=colours.get(process["state"], ""))
        table.add_row(process["name"], state, str(process["pid"] or "-"), str(process["restarts"]))
    Console(highlight=False).print(table)
