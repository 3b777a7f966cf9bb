"""The folder that a running system keeps its state in, and the lock that makes it the only one.

Everything in it is private to the user: mode 0700, secrets 0600. Nothing else
of the checkout is written to.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import AlreadyRunning

_LOG_BYTES_KEPT = 10_000_000
_LONGEST_SOCKET_PATH = 100
_SOCKET_FOLDER = "maruntime-"
_CONTENTS = ("env", "secrets", "log", "data", "run", "itest", "control.sock", "supervisor.lock")


@dataclass(frozen=True)
class Holder:
    """Who holds a home, as its lock file tells."""

    pid: int
    control: Path


class Home:
    """Paths below one folder, `.maruntime` unless MARUNTIME_HOME says otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.env = self.root / "env"
        self.secrets = self.root / "secrets"
        self.logs = self.root / "log"
        self.data = self.root / "data"
        self.run = self.root / "run"
        self._lock = self.root / "supervisor.lock"

    @contextmanager
    def held(self) -> Iterator[Path]:
        """Hold the home for one supervisor and give the path of its control socket.

        Raises:
            AlreadyRunning: another supervisor holds it.
        """
        for folder in (self.root, self.logs, self.data, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        with open(os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600), "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(
                    f"A supervisor already runs in {self.root}: see make status, stop it with make down."
                ) from None
            self._drop_stray_socket()
            with self._control() as control:
                lock.truncate()
                json.dump({"pid": os.getpid(), "control": str(control)}, lock)
                lock.flush()
                yield control
                lock.seek(0)
                lock.truncate()

    def holder(self) -> Holder | None:
        """Who holds the home now, if anybody."""
        with suppress(FileNotFoundError), self._lock.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with suppress(ValueError, KeyError):
                    told = json.load(lock)
                    return Holder(pid=told["pid"], control=Path(told["control"]))
                return Holder(pid=0, control=self.root / "control.sock")
        return None

    def log(self, name: str) -> Path:
        """The log of a process, moved aside when it has grown too long."""
        path = self.logs / f"{name}.log"
        with suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_BYTES_KEPT:
                path.rename(path.with_suffix(".log.1"))
        return path

    def write_env(self, values: Mapping[str, str]) -> None:
        """Write the file that a shell sources to find the system."""
        lines = [f"export {name}={_quoted(value)}\n" for name, value in values.items()]
        write_private(self.env, "".join(lines))

    def clear(self) -> None:
        """Remove what a system keeps here, and the folder when nothing else is in it."""
        self._drop_stray_socket()
        for name in _CONTENTS:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    @contextmanager
    def _control(self) -> Iterator[Path]:
        """A path for the control socket that the kernel accepts: a long one moves to a private folder in /tmp."""
        path = self.root / "control.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            path.unlink(missing_ok=True)
            yield path
            path.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix=_SOCKET_FOLDER) as folder:
            yield Path(folder) / "control.sock"

    def _drop_stray_socket(self) -> None:
        """Remove the private folder of a supervisor that was killed; its lock file still names it."""
        with suppress(OSError, ValueError, KeyError):
            folder = Path(json.loads(self._lock.read_text())["control"]).parent
            if folder.name.startswith(_SOCKET_FOLDER) and folder != self.root:
                (folder / "control.sock").unlink(missing_ok=True)
                folder.rmdir()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, replacing it in one go."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"
