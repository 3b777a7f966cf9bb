"""What the person at the terminal wants: the only reader of the supervisor's own environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from supervisor.errors import SupervisorError

CHECKOUT = Path(__file__).resolve().parent.parent
_WRITTEN_BY_US = ("MARUNTIME_URL", "MARUNTIME_TEST_SERVER_URL", "MARUNTIME_CONTROL")
_NAMED_KEYS = ("MARUNTIME_API_KEY", "MARUNTIME_ADMIN_KEY", "ADMIN_API_KEY", "INTERNAL_API_KEY", "MARUNTIME_JOIN_TOKEN")
_STORES = ("DATABASE_URL", "REDIS_URL")
_MODEL = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a stack is built from; `environ` is what the processes may inherit."""

    environ: Mapping[str, str]
    home: Path
    checkout: Path = CHECKOUT
    workers: int = 2
    orchestrators: int = 1
    port: int | None = None
    durable: bool = True

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read MARUNTIME_HOME, WORKERS, ORCHESTRATORS and PORT.

        Raises:
            SupervisorError: one of them is no number in its range.
        """
        return cls(
            environ={name: value for name, value in environ.items() if name not in _WRITTEN_BY_US},
            home=CHECKOUT / (environ.get("MARUNTIME_HOME") or ".maruntime"),
            workers=_number(environ, "WORKERS", range(1, 1_001)) or cls.workers,
            orchestrators=_number(environ, "ORCHESTRATORS", range(1, 101)) or cls.orchestrators,
            port=_number(environ, "PORT", range(1, 65_536)),
        )

    @property
    def real_model(self) -> bool:
        """Whether the user named a model of their own: address and key."""
        return bool(self.environ.get("OPENAI_BASE_URL") and self.environ.get("OPENAI_API_KEY"))

    def throw_away(self) -> Self:
        """The same wishes for a stack that shares nothing with anybody: own stores, keys, ports, scripted LLM."""
        shared = {*_NAMED_KEYS, *_STORES, *_MODEL}
        return replace(
            self,
            environ={name: value for name, value in self.environ.items() if name not in shared},
            home=self.home / "itest",
            port=None,
            durable=False,
        )


def _number(environ: Mapping[str, str], name: str, allowed: range) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) not in allowed:
        raise SupervisorError(f"{name}={text}: a number from {allowed.start} to {allowed.stop - 1} is expected.")
    return int(text)
