"""One operating-system process that cannot outlive the one that started it.

Every command runs behind `setpriv --pdeathsig`: the kernel signals it when its
parent dies, however the parent died. The setting survives exec. A parent that
died before it was made is seen by comparing the parent's id. The kernel ties it
to the *thread* that forked: spawn from the main thread only.

A child leads its own session, so that Ctrl-C reaches the supervisor alone.
Knows nothing of restarts and nothing of readiness.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from supervisor.errors import SupervisorError

_SAME_PARENT = '[ "$PPID" = "$0" ] || exit 125; exec "$@"'
_POLL_SECONDS = 0.05


class Child:
    """A running command, its log and its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def spawn(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        log: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        wrapper: Sequence[str] = (),
    ) -> Self:
        """Start the command, appending what it prints to `log`; `wrapper` is what drops its privileges.

        Raises:
            SupervisorError: the command or `setpriv` cannot be executed.
        """
        line = [*wrapper, *_leashed(command, death_signal)]
        output = None if log is None else os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process = subprocess.Popen(  # noqa: S603 - the supervisor's own command lines
                line,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as exc:
            raise SupervisorError(f"Cannot execute {line[0]}: {exc.strerror}.") from exc
        finally:
            if output is not None:
                os.close(output)
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id; wrappers replace themselves, so it is the command's own."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._process.poll() is not None

    async def ended(self) -> int:
        """Wait for the end, clear away what it left in its process group and return the exit code."""
        while self._process.returncode is None:
            await _has_ended(self.pid)
            # Not reaped yet, so the id still names this group and no other.
            self.send_group(signal.SIGKILL)
            self._process.poll()
        return self._process.returncode

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone, as a crash or an operator would."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def send_group(self, number: signal.Signals) -> None:
        """Signal the process and everything that stayed in its group."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def stop(self, number: signal.Signals, *, within: float) -> int:
        """Ask the process to end, force it after `within` seconds, and return its exit code."""
        self.send(number)
        self.send_group(signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                return await self.ended()
        return await self.kill()

    async def kill(self) -> int:
        """Force the process and its group to end."""
        self.send_group(signal.SIGKILL)
        return await self.ended()


def _leashed(command: Sequence[str], death_signal: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise SupervisorError("The program setpriv (package util-linux) is missing; docker compose is the way here.")
    name = death_signal.name.removeprefix("SIG")
    return [setpriv, "--pdeathsig", name, "/bin/sh", "-c", _SAME_PARENT, str(os.getpid()), *command]


async def _has_ended(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel or a container profile without pidfd: ask again and again
        with suppress(ChildProcessError):
            while not _is_waiting_to_be_reaped(pid):  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_POLL_SECONDS)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _is_waiting_to_be_reaped(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
