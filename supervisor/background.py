"""Run the supervisor behind the terminal, and end it from there.

`up` starts a session of its own and reads a pipe until the system is ready; the pipe's end
without that mark means that it is not going to be.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from supervisor.control import ask
from supervisor.errors import AlreadyRunning, NotRunning, SupervisorError
from supervisor.home import Home
from supervisor.screen import READY_MARK, Screen
from supervisor.settings import CHECKOUT

_STOPS_WITHIN = 120.0
_POLL_SECONDS = 0.05


def up(home: Home, screen: Screen) -> bool:
    """Start a supervisor in the background, show what it says, and tell whether the system is up.

    Raises:
        AlreadyRunning: there is one.
    """
    if home.holder() is not None:
        raise AlreadyRunning(f"A supervisor already runs in {home.root}: see make status.")
    home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    with open(os.open(home.log("supervisor"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "wb") as log:
        subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "supervisor", "run", "--watcher", str(write_end)],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write_end,),
            start_new_session=True,
        )
    os.close(write_end)
    with open(read_end) as told:
        for line in told:
            if line.rstrip("\n") == READY_MARK:
                return True
            screen.say(line.rstrip("\n"))
    return False


def down(home: Home) -> None:
    """Ask the supervisor to stop everything and return when it is gone.

    Raises:
        NotRunning: there is none.
        SupervisorError: it did not end in time.
    """
    holder = home.holder()
    if holder is None:
        raise NotRunning("Nothing is running.")
    try:
        ask(holder.control, {"op": "shutdown"})
    except NotRunning:  # it holds the home but does not serve its socket (yet, or any more)
        with suppress(ProcessLookupError):
            if holder.pid:
                os.kill(holder.pid, signal.SIGTERM)
    patient_until = time.monotonic() + _STOPS_WITHIN
    while home.holder() is not None or _runs(holder.pid):
        if time.monotonic() > patient_until:
            raise SupervisorError(f"The supervisor (pid {holder.pid}) did not end within {_STOPS_WITHIN:g} s.")
        time.sleep(_POLL_SECONDS)


def _runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie that nobody reaps."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
