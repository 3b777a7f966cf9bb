"""Everything that the worker reads from its environment."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_worker.llm.endpoints import LLMEndpoint

MAIN_ENDPOINT = "main"
_DEFAULT_MODEL = "gpt-5-mini"


class WorkerGroup(BaseModel):
    """Where to dial, and how much to take on."""

    orchestrators: str = "127.0.0.1:8001"
    """Addresses of orchestrators, separated by commas; streams spread over them."""
    slots: PositiveInt = 32
    health_file: Path | None = None
    redial: timedelta = timedelta(milliseconds=100)
    tls_ca: str | None = None
    """The authority of the orchestrator's certificate; switches TLS on."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    stop_within: timedelta = timedelta(seconds=25)
    """From SIGTERM to the end, whatever still runs."""


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
    log_level: str = "info"
    worker: WorkerGroup = WorkerGroup()

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
