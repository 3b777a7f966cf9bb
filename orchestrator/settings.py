"""Everything that the orchestrator reads from its environment."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Literal, Self

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, PostgresDsn, RedisDsn, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class HttpSettings(BaseModel):
    """Where the gateway listens and what it takes."""

    host: str = "127.0.0.1"
    port: NonNegativeInt = 8000
    max_body_bytes: PositiveInt = 16 * 1024 * 1024
    keep_alive: timedelta = timedelta(seconds=15)
    """How often an idle stream gets a comment."""
    whole_wait: timedelta = timedelta(seconds=540)
    """How long a request without `stream` waits for its run."""
    drain_notice: timedelta = timedelta()
    """How long a stopping replica goes on serving after it says that it is not ready."""
    shutdown_grace: timedelta = timedelta(seconds=10)


class FabricSettings(BaseModel):
    """Where workers dial in, and the times of ownership (docs/durability.md, section 2)."""

    host: str = "127.0.0.1"
    port: NonNegativeInt = 8001
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    """When set, workers must show a certificate of this authority."""
    heartbeat: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=15)
    permit: timedelta = timedelta(milliseconds=800)
    reattach_grace: timedelta = timedelta(seconds=1)
    renew_every: timedelta = timedelta(milliseconds=500)
    send_queue: PositiveInt = 256

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        """Refuse times under which two owners could act at once."""
        if not self.permit < self.reattach_grace:
            raise ValueError("permit must be shorter than reattach_grace")
        if not 3 * self.heartbeat <= self.lease:
            raise ValueError("three heartbeats must fit into a lease")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.tls_client_ca is not None and not self.is_encrypted:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        if not is_loopback(self.host) and not self.is_encrypted:
            raise ValueError("workers may dial in from other machines only with tls_certificate and tls_key")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether workers dial in over TLS."""
        return self.tls_certificate is not None and self.tls_key is not None


def is_loopback(host: str) -> bool:
    """Whether the address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class DispatchSettings(BaseModel):
    """How runs are put on slots and looked after."""

    poll: timedelta = timedelta(seconds=1)
    """The longest time until a run that another replica accepted is seen without a hint."""
    sweep: timedelta = timedelta(seconds=1)
    turn_deadline: timedelta = timedelta(seconds=600)
    clarification_wait: timedelta = timedelta(days=7)
    max_attempts: PositiveInt = 5


class DatabaseSettings(BaseModel):
    """How many connections, and how long to wait for the store."""

    journal_connections: PositiveInt = 10
    orm_connections: PositiveInt = 5
    connect_timeout: timedelta = timedelta(seconds=5)
    command_timeout: timedelta = timedelta(seconds=10)


class LimitSettings(BaseModel):
    """Stated limits."""

    transcript_bytes: PositiveInt = 8 * 1024 * 1024
    page: PositiveInt = 100


class OrchestratorSettings(BaseSettings):
    """The orchestrator's environment; `MARUNTIME_` before each name, `__` between group and name."""

    model_config = SettingsConfigDict(
        env_prefix="MARUNTIME_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    database_url: PostgresDsn = Field(validation_alias="DATABASE_URL")
    redis_url: RedisDsn | None = Field(default=None, validation_alias="REDIS_URL")
    admin_api_key: SecretStr | None = Field(default=None, validation_alias="ADMIN_API_KEY", min_length=16)
    internal_api_key: SecretStr | None = Field(default=None, validation_alias="INTERNAL_API_KEY", min_length=16)
    api_key: SecretStr | None = Field(default=None, min_length=16)
    join_token: SecretStr | None = Field(default=None, min_length=16)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    default_template: str = "assistant"
    http: HttpSettings = HttpSettings()
    fabric: FabricSettings = FabricSettings()
    dispatch: DispatchSettings = DispatchSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitSettings = LimitSettings()
