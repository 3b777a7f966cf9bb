"""How a value of a case is compared with what came back.

A plain value must be equal. A mapping with one `$` key is an operator, such
as `{$matches: "^run_"}`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from testserver.pointer import PointerMissing, equal, resolve

_ABSENT = object()


class Operator(NamedTuple):
    """A comparison other than equality."""

    holds: Callable[[Any, Any], bool]
    refuses: Callable[[Any], str | None]


def agrees(got: Any, wanted: Any) -> bool:
    """Tell whether a value is what the case wants."""
    for operator, operand in _own_operator(wanted):
        return OPERATORS[operator].holds(got, operand)
    return got is not _ABSENT and equal(got, wanted)


def agrees_at(document: Any, pointer: str, wanted: Any) -> tuple[bool, Any]:
    """Tell whether the place in the document is what the case wants, and what stands there."""
    try:
        got = resolve(document, pointer)
    except PointerMissing:
        return agrees(_ABSENT, wanted), "nothing there"
    return agrees(got, wanted), got


def operators_in(wanted: Any) -> Iterator[tuple[str, Any]]:
    """The operators that a wanted value uses; they count only at its top."""
    if isinstance(wanted, dict):
        for key, operand in wanted.items():
            if str(key).startswith("$"):
                yield key, operand


def _own_operator(wanted: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(wanted, dict) and len(wanted) == 1:
        yield from operators_in(wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _matches(got: Any, pattern: str) -> bool:
    return isinstance(got, str) and re.search(pattern, got) is not None


def _contains(got: Any, operand: Any) -> bool:
    if isinstance(got, str):
        return isinstance(operand, str) and operand in got
    return isinstance(got, list) and any(equal(item, operand) for item in got)


def _has_length(got: Any, length: int) -> bool:
    return isinstance(got, (str, list, dict)) and len(got) == length


def _not_a_pattern(operand: Any) -> str | None:
    if not isinstance(operand, str):
        return "$matches takes a regular expression"
    try:
        re.compile(operand)
    except re.error as exc:
        return f"$matches: not a regular expression: {exc}"
    return None


def _not_a_number(operand: Any) -> str | None:
    return None if _is_number(operand) else "takes a number"


def _not_true(operand: Any) -> str | None:
    return None if operand is True else "takes only true"


OPERATORS: dict[str, Operator] = {
    "$matches": Operator(_matches, _not_a_pattern),
    "$contains": Operator(_contains, lambda _: None),
    "$present": Operator(lambda got, _: got is not _ABSENT and got is not None, _not_true),
    "$absent": Operator(lambda got, _: got is _ABSENT, _not_true),
    "$length": Operator(_has_length, _not_a_number),
    "$at_least": Operator(lambda got, least: _is_number(got) and got >= least, _not_a_number),
    "$at_most": Operator(lambda got, most: _is_number(got) and got <= most, _not_a_number),
    "$not": Operator(lambda got, other: got is not _ABSENT and not equal(got, other), lambda _: None),
}
