"""What can go wrong for the person at the terminal: every message is one plain sentence."""

from collections.abc import Iterator
from contextlib import contextmanager


class SupervisorError(Exception):
    """The supervisor could not do that."""


class PortTaken(SupervisorError):
    """The port that was asked for is in use."""


class AlreadyRunning(SupervisorError):
    """Another supervisor holds this home."""


class NotRunning(SupervisorError):
    """No supervisor holds this home."""


class NoSuchProcess(SupervisorError):
    """No process of the stack has that name."""


class Interrupted(SupervisorError):
    """Somebody stopped the start-up before everything was up."""


class NotStarted(SupervisorError):
    """A process did not become ready; `log` holds its last lines."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


@contextmanager
def unwrapped() -> Iterator[None]:
    """Let the first error of a task group through as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
