"""Everything that the worker reads from its environment."""

import re
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_worker.llm.endpoints import LLMEndpoint
from agent_worker.tools.secrets import NamedSecrets

MAIN_ENDPOINT = "main"
_DEFAULT_MODEL = "gpt-5-mini"
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}")


class WorkerGroup(BaseModel):
    """Where to dial, and how much to take on."""

    orchestrators: str = "127.0.0.1:8001"
    """Where orchestrators listen: one `name:port`, or several `IPv4:port` separated by commas.

    Streams spread over all addresses, also over those that a name stands for.
    """
    slots: PositiveInt = 32
    health_file: Path | None = None
    redial: timedelta = timedelta(milliseconds=100)
    remote_allowed_private: tuple[str, ...] = ()
    """Private places that remote tools may reach: `host`, `host:port` or a network; a JSON list."""
    secrets_folder: Path | None = None
    """One file for each named secret."""
    tls_ca: str | None = None
    """The authority of the orchestrator's certificate; switches TLS on."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    stop_within: timedelta = timedelta(seconds=20)
    """From SIGTERM to the end: how long the current step may still take."""

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        addresses = self._addresses
        return "ipv4:" + ",".join(addresses) if all(map(_is_ipv4, addresses)) else "dns:///" + addresses[0]

    @property
    def _addresses(self) -> list[str]:
        return self.orchestrators.replace(",", " ").split()

    @model_validator(mode="after")
    def _can_be_dialled(self) -> Self:
        addresses = self._addresses
        if not addresses or not all(_ADDRESS.fullmatch(address) for address in addresses):
            raise ValueError("orchestrators must be host:port, or several separated by commas")
        if len(addresses) > 1 and not all(map(_is_ipv4, addresses)):
            raise ValueError("several orchestrators must be IPv4 addresses; or name one host that resolves to all")
        if self.tls_ca is None and not all(map(_is_local, addresses)):
            raise ValueError("orchestrators on other machines are dialled with tls_ca only: the join token is a secret")
        return self


def _host(address: str) -> str:
    return address.rsplit(":", 1)[0].strip("[]")


def _is_ipv4(address: str) -> bool:
    try:
        return ip_address(_host(address)).version == 4
    except ValueError:
        return False


def _is_local(address: str) -> bool:
    host = _host(address)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class WorkerSettings(BaseSettings):
    """The worker's environment; `MARUNTIME_` before each name, `__` between group and name.

    `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` make the endpoint
    `main`; more endpoints are `MARUNTIME_LLM__<name>__BASE_URL` and so on.
    """

    # Compose hands over `OPENAI_API_KEY: ${OPENAI_API_KEY:-}`: empty is absent.
    model_config = SettingsConfigDict(
        env_prefix="MARUNTIME_", env_nested_delimiter="__", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    join_token: SecretStr = Field(min_length=16)
    openai_base_url: str = Field(default="https://api.openai.com/v1", validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_model: str = Field(default=_DEFAULT_MODEL, validation_alias="OPENAI_MODEL")
    llm: dict[str, LLMEndpoint] = {}
    secret: dict[str, SecretStr] = {}
    """`MARUNTIME_SECRET__<name>`: what remote tools name as `${secret:<name>}`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    worker: WorkerGroup = WorkerGroup()

    @property
    def secrets(self) -> NamedSecrets:
        """The named secrets of the environment and of the secrets folder.

        Raises:
            ValueError: a name or a value cannot be used, or a name is given twice.
        """
        given = {f"MARUNTIME_SECRET__{name}": value.get_secret_value() for name, value in self.secret.items()}
        return NamedSecrets.load(given, self.worker.secrets_folder)

    @property
    def endpoints(self) -> dict[str, LLMEndpoint]:
        """Every endpoint by name."""
        if self.openai_api_key is None:
            return self.llm
        main = LLMEndpoint(base_url=self.openai_base_url, api_key=self.openai_api_key, model=self.openai_model)
        return {MAIN_ENDPOINT: main, **self.llm}

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> Self:
        if not self.endpoints:
            raise ValueError("no model endpoint: set OPENAI_API_KEY, or MARUNTIME_LLM__<name>__BASE_URL and so on")
        return self
