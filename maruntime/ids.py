"""Identifiers: a prefix that names the kind, then 26 characters that sort by time.

The 26 characters are a ULID in lower case (48 bits of milliseconds, 80 bits of
chance, Crockford base 32), so that primary keys grow at one end of the index
and an id cannot be guessed.
"""

import re
import secrets
import time
from typing import NewType

SessionId = NewType("SessionId", str)
RunId = NewType("RunId", str)
TurnId = NewType("TurnId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SORTABLE = re.compile(rf"[{_ALPHABET}]{{26}}")
_CALL_CHARACTERS = 16


def _sortable() -> str:
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    characters = []
    for _ in range(26):
        characters.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(characters))


def new_session_id() -> SessionId:
    """Make the id of a session: `sess_` and 26 characters."""
    return SessionId("sess_" + _sortable())


def new_run_id() -> RunId:
    """Make the id of a run."""
    return RunId("run_" + _sortable())


def new_turn_id() -> TurnId:
    """Make the id of a turn; a chat completion's id is `chatcmpl-<turn>`."""
    return TurnId("turn_" + _sortable())


def new_id(kind: str) -> str:
    """Make an id of another kind, such as `tool` or `artifact`."""
    return f"{kind}_{_sortable()}"


def new_call_id() -> str:
    """Make the id of a tool call: `call_` and 16 random characters."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(_CALL_CHARACTERS))


def is_id(kind: str, text: str) -> bool:
    """Whether the text has the form of an id of this kind; it may still name nothing."""
    return text.startswith(kind + "_") and _SORTABLE.fullmatch(text, len(kind) + 1) is not None


def is_session_id(text: str) -> bool:
    """Whether the text has the form of a session id; it may still name none."""
    return is_id("sess", text)
