"""What each kind of process gets to see: its own settings, and no secret that is not its own.

Workers run tools and the test-server is a stranger: neither learns where the
stores are, and only the test-server may use the control socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.credentials import Credentials
from supervisor.ports import HOST

_STORES = ("PG", "DATABASE_", "REDIS_", "POSTGRES_")
_OURS_ALONE = {
    "ADMIN_API_KEY",
    "INTERNAL_API_KEY",
    "MARUNTIME_ADMIN_KEY",
    "MARUNTIME_API_KEY",
    "MARUNTIME_CONTROL",
    "MARUNTIME_HOME",
    "MARUNTIME_JOIN_TOKEN",
    "MARUNTIME_TEST_SERVER_URL",
    "MARUNTIME_URL",
    "ORCHESTRATORS",
    "PORT",
    "WORKERS",
}
# What make tells its recipes is nothing to the processes.
_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where everything of one stack listens."""

    database_url: str
    redis_url: str
    control: Path
    test_server_port: int
    http_ports: tuple[int, ...]
    fabric_ports: tuple[int, ...]

    @property
    def url(self) -> str:
        """The first gateway."""
        return f"http://{HOST}:{self.http_ports[0]}"

    @property
    def test_server_url(self) -> str:
        """The test-server, which is also the scripted LLM."""
        return f"http://{HOST}:{self.test_server_port}"


class Environment:
    """Builds the environment of every process of one stack."""

    def __init__(
        self, inherited: Mapping[str, str], addresses: Addresses, credentials: Credentials, *, real_model: bool
    ) -> None:
        self._inherited = inherited
        self._addresses = addresses
        self._credentials = credentials
        self._real_model = real_model

    def orchestrator(self, index: int) -> dict[str, str]:
        """What an orchestrator gets; it has no LLM client."""
        addresses, credentials = self._addresses, self._credentials
        return self._base(without=("OPENAI_",)) | {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "MARUNTIME_HTTP__HOST": HOST,
            "MARUNTIME_HTTP__PORT": str(addresses.http_ports[index]),
            "MARUNTIME_FABRIC__HOST": HOST,
            "MARUNTIME_FABRIC__PORT": str(addresses.fabric_ports[index]),
            "ADMIN_API_KEY": credentials.admin_key,
            "INTERNAL_API_KEY": credentials.internal_key,
            "MARUNTIME_API_KEY": credentials.api_key,
            "MARUNTIME_JOIN_TOKEN": credentials.join_token,
        }

    def worker(self, health_file: Path) -> dict[str, str]:
        """What a worker gets: whom to dial and which model to ask."""
        model = {} if self._real_model else self._scripted_llm()
        return (
            self._base(without=_STORES)
            | model
            | {
                "MARUNTIME_WORKER__ORCHESTRATORS": ",".join(f"{HOST}:{port}" for port in self._addresses.fabric_ports),
                "MARUNTIME_WORKER__HEALTH_FILE": str(health_file),
                "MARUNTIME_JOIN_TOKEN": self._credentials.join_token,
            }
        )

    def test_server(self) -> dict[str, str]:
        """What the test-server gets: the way in that a client has, and the control socket."""
        return self._base(without=("OPENAI_", "MARUNTIME_", *_STORES)) | {
            "TEST_SERVER_HOST": HOST,
            "TEST_SERVER_PORT": str(self._addresses.test_server_port),
            "MARUNTIME_URL": self._addresses.url,
            "MARUNTIME_API_KEY": self._credentials.api_key,
            "MARUNTIME_ADMIN_KEY": self._credentials.admin_key,
            "MARUNTIME_CONTROL": str(self._addresses.control),
        }

    def sourced(self) -> dict[str, str]:
        """What a shell gets that sources the env file."""
        return {
            "MARUNTIME_URL": self._addresses.url,
            "MARUNTIME_API_KEY": self._credentials.api_key,
            "MARUNTIME_ADMIN_KEY": self._credentials.admin_key,
            "MARUNTIME_TEST_SERVER_URL": self._addresses.test_server_url,
            "MARUNTIME_CONTROL": str(self._addresses.control),
            "DATABASE_URL": self._addresses.database_url,
            "REDIS_URL": self._addresses.redis_url,
        }

    def _scripted_llm(self) -> dict[str, str]:
        return {"OPENAI_BASE_URL": f"{self._addresses.test_server_url}/llm/v1", "OPENAI_API_KEY": "scripted"}

    def _base(self, *, without: tuple[str, ...]) -> dict[str, str]:
        hidden = _OURS_ALONE | _MAKE
        kept = {
            name: value
            for name, value in self._inherited.items()
            if name not in hidden and not name.startswith(without)
        }
        local = [HOST, "localhost"]
        for name in ("NO_PROXY", "no_proxy"):  # a proxy is never the way to the next process
            kept[name] = ",".join([*filter(None, [kept.get(name)]), *local])
        return kept | {"PYTHONUNBUFFERED": "1"}
