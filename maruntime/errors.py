"""The one tree of errors that the platform raises on purpose.

A class carries a stable `code` (clients may branch on it) and whether trying
again can help. The docstring is the default message and is safe to show to a
caller. Status numbers live elsewhere: HTTP in `orchestrator.exception_handlers`,
gRPC in `maruntime.wire.status`.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class MaruntimeError(Exception):
    """The platform could not do that."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **details: str | int) -> None:
        super().__init__(message or inspect.getdoc(type(self)))
        self.details = details

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self.args[0])


# --- the thing is not there (or is not the caller's to see)


class NotFound(MaruntimeError):
    """There is no such thing."""

    code = "not_found"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class RunNotFound(NotFound):
    """There is no such run."""

    code = "run_not_found"


class ModelNotFound(NotFound):
    """There is no such model: use a template name, name@version or a session id."""

    code = "model_not_found"


class KeyNotFound(NotFound):
    """There is no such API key."""

    code = "key_not_found"


class ToolNotFound(NotFound):
    """There is no such tool."""

    code = "tool_not_found"


class TemplateNotFound(NotFound):
    """There is no such template."""

    code = "template_not_found"


class VersionNotFound(NotFound):
    """There is no such version."""

    code = "version_not_found"


# --- the thing is in a state that does not allow this


class Conflict(MaruntimeError):
    """The thing is in a state that does not allow this."""

    code = "conflict"


class SessionBusy(Conflict):
    """The session is working on another message."""

    code = "session_busy"


class SessionClosed(Conflict):
    """The session is closed."""

    code = "session_closed"


class RunNotWaiting(Conflict):
    """The run is not waiting for an answer."""

    code = "run_not_waiting"


class RunCancelled(Conflict):
    """The run was cancelled."""

    code = "run_cancelled"


class NameTaken(Conflict):
    """The name is taken."""

    code = "name_taken"


class VersionConflict(Conflict):
    """Somebody else changed it first: read it again."""

    code = "version_conflict"


class ToolUnchecked(Conflict):
    """No worker has loaded this version of the tool yet."""

    code = "tool_unchecked"


class InUse(Conflict):
    """It is in use."""

    code = "in_use"

    def __init__(self, message: str | None = None, *, used_by: Sequence[str] = (), **details: str | int) -> None:
        super().__init__(message, **details)
        self.problems = [{"code": self.code, "path": name, "message": f"{name} needs it."} for name in used_by]


# --- policy, quota, rights


class Refused(MaruntimeError):
    """This is not allowed."""

    code = "refused"


class KeyMissing(Refused):
    """No API key was sent: use `Authorization: Bearer`, `X-API-Key` or `X-Internal-Auth`."""

    code = "missing_api_key"


class KeyInvalid(Refused):
    """The API key is not valid."""

    code = "invalid_api_key"


class ScopeMissing(Refused):
    """The API key does not have the scope that this needs."""

    code = "insufficient_scope"


# --- the caller's input


class Invalid(MaruntimeError):
    """The request is not valid."""

    code = "invalid_request"

    def __init__(self, message: str | None = None, *, param: str | None = None, **details: str | int) -> None:
        super().__init__(message, **details)
        self.param = param


class DefinitionInvalid(Invalid):
    """The tool or template cannot be saved like this."""

    code = "invalid_definition"

    def __init__(self, message: str | None = None, *, problems: Sequence[Mapping[str, Any]] = (), **given: Any) -> None:
        super().__init__(message, **given)
        self.problems = list(problems)


class BodyTooLarge(Invalid):
    """The request body is over the limit."""

    code = "request_too_large"


class TranscriptTooLarge(Invalid):
    """The session's transcript is over the limit."""

    code = "transcript_too_large"


class UnsupportedParameter(Invalid):
    """The parameter is not supported."""

    code = "unsupported_parameter"


class UnknownParameter(Invalid):
    """The parameter is not known."""

    code = "unknown_parameter"


class ProtocolUnsupported(Invalid):
    """The other side speaks another version of the protocol."""

    code = "protocol_unsupported"


# --- something that we depend on is not there; trying again can help


class Unavailable(MaruntimeError):
    """A part of the platform is not reachable just now."""

    code = "unavailable"
    retryable = True


class StoreUnavailable(Unavailable):
    """The database does not answer."""

    code = "store_unavailable"


class NoSlotFree(Unavailable):
    """Every slot is busy."""

    code = "no_slot_free"


class LinkLost(Unavailable):
    """The worker's stream ended."""

    code = "link_lost"


# --- how a run can end badly


class RunFailed(MaruntimeError):
    """The run failed."""

    code = "run_failed"

    def __init__(self, message: str | None = None, *, reason: str | None = None, **details: str | int) -> None:
        super().__init__(message, **details)
        if reason is not None:
            self.code = reason  # type: ignore[misc] - why this one failed, as the worker or the sweeper said


class RunExpired(MaruntimeError):
    """The run waited past its deadline."""

    code = "run_expired"


class RunDead(MaruntimeError):
    """The run was given up after several attempts without progress."""

    code = "run_dead"


class RunStillActive(MaruntimeError):
    """The run is still working; read it by its id."""

    code = "run_still_active"


class ReplicaStopping(MaruntimeError):
    """This replica is going away; the run goes on and can be read by its id."""

    code = "replica_stopping"


class Fenced(MaruntimeError):
    """Somebody else owns the run now."""

    code = "fenced"
