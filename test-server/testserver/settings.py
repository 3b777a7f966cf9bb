"""Everything the test server reads from its environment."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

CHECKOUT = Path(__file__).resolve().parents[2]


class StackSettings(BaseModel):
    """Where the stack under test is, and what opens its doors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = None
    api_key: SecretStr | None = None
    admin_key: SecretStr | None = None
    control: Path | None = None


class Settings(BaseModel):
    """The test server's own address, its cases and the stack it judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    cases_dir: Path = CHECKOUT / "cases"
    stack: StackSettings = StackSettings()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the documented variables; an empty one counts as absent."""
        server = {"host": "TEST_SERVER_HOST", "port": "TEST_SERVER_PORT", "cases_dir": "CASES_DIR"}
        stack = {
            "url": "MARUNTIME_URL",
            "api_key": "MARUNTIME_API_KEY",
            "admin_key": "MARUNTIME_ADMIN_KEY",
            "control": "MARUNTIME_CONTROL",
        }
        return cls.model_validate({**_present(server, environ), "stack": _present(stack, environ)})


def _present(names: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    return {field: environ[variable] for field, variable in names.items() if environ.get(variable)}
