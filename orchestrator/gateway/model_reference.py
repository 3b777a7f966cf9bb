"""What the `model` of a request names: the router, a template or a session.

Only the form is judged here; whether the template or the session is there, and
whose it is, is the use case's question. Text that starts with `sess_` is a
session id or nothing: it is never looked up as a template.
"""

import re
from dataclasses import dataclass
from typing import Any

from maruntime.errors import Invalid, ModelNotFound
from maruntime.ids import SessionId, is_session_id

_AUTO = "auto"
_SESSION_PREFIX = "sess_"
_SESSION_LENGTH = len(_SESSION_PREFIX) + 26
_TEMPLATE = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?:@([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Auto:
    """The router picks the template."""


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A template by its name; without a version, the active one."""

    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class SessionReference:
    """A session to continue."""

    session_id: SessionId


ModelReference = Auto | TemplateName | SessionReference


def parse_model(value: Any) -> ModelReference:
    """Read the `model` of a request.

    Raises:
        Invalid: it is not a string.
        ModelNotFound: no template or session can have this name.
    """
    if not isinstance(value, str):
        raise Invalid("model must be a string: `auto`, a template name, name@version or a session id.", param="model")
    if value.startswith(_SESSION_PREFIX):
        return _session(value)
    if value == _AUTO:
        return Auto()
    return _template(value)


def _session(value: str) -> SessionReference:
    if len(value) != _SESSION_LENGTH or not is_session_id(value):
        raise ModelNotFound(param="model")
    return SessionReference(SessionId(value))


def _template(value: str) -> TemplateName:
    match = _TEMPLATE.fullmatch(value)
    if match is None:
        raise ModelNotFound(
            "There is no such model: `auto`, a template name (1 to 64 of a-z, 0-9, _ and -), name@version "
            "or a session id is one.",
            param="model",
        )
    name, version = match.groups()
    if name == _AUTO:
        raise Invalid("The router has no versions: send `auto` without @.", param="model")
    return TemplateName(name, None if version is None else int(version))
