"""JSON pointers (RFC 6901) and equality as JSON means it."""

from collections.abc import Mapping, Sequence
from typing import Any


class PointerMissing(Exception):
    """The pointer leads nowhere in this document."""


def resolve(document: Any, pointer: str) -> Any:
    """Follow a JSON pointer.

    Raises:
        PointerMissing: a key or an index on the way does not exist.
    """
    value = document
    for token in _tokens(pointer):
        value = _child(value, token, pointer)
    return value


def is_pointer(text: str) -> bool:
    """Tell whether the text is written as a JSON pointer."""
    return text == "" or text.startswith("/")


def equal(left: Any, right: Any) -> bool:
    """Compare two JSON values; a boolean is never a number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if _is_list(left) and _is_list(right):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


def _tokens(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _child(value: Any, token: str, pointer: str) -> Any:
    if isinstance(value, Mapping) and token in value:
        return value[token]
    if _is_list(value) and token.isdecimal() and int(token) < len(value):
        return value[int(token)]
    raise PointerMissing(pointer)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
