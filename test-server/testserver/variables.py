"""The `${name}` of a case: where they stand and what they stand for.

`$${` writes a literal `${`. A string that is nothing but one variable takes
the variable's own type where any JSON value may stand.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([a-z_][a-z0-9_]*)\}|\$\{")
_ALONE = re.compile(r"\$\{([a-z_][a-z0-9_]*)\}")


class VariableUnknown(Exception):
    """The case uses a variable that nothing has set."""


class Scope:
    """The variables of one execution, growing as its steps save values."""

    def __init__(self, initial: Mapping[str, Any]) -> None:
        self._values = dict(initial)

    def set(self, name: str, value: Any) -> None:
        """Give the variable a value, a new one if it had one."""
        self._values[name] = value

    def append(self, name: str, value: Any) -> None:
        """Add to a list variable, which the first value creates."""
        self._values[name] = [*self._values.get(name, []), value]

    def text(self, template: str) -> str:
        """Fill the variables of a text.

        Raises:
            VariableUnknown: one of them has no value.
        """
        return _PLACEHOLDER.sub(self._replacement, template)

    def value(self, template: Any, *, typed: bool = True) -> Any:
        """Fill the variables of any JSON value; untyped keeps every string a string.

        Raises:
            VariableUnknown: one of them has no value.
        """
        if isinstance(template, str):
            alone = _ALONE.fullmatch(template) if typed else None
            return self._get(alone[1]) if alone else self.text(template)
        if isinstance(template, Mapping):
            return {key: self.value(item, typed=typed) for key, item in template.items()}
        if isinstance(template, list):
            return [self.value(item, typed=typed) for item in template]
        return template

    def _replacement(self, match: re.Match[str]) -> str:
        return str(self._get(match[1])) if match[1] else "${"

    def _get(self, name: str) -> Any:
        if name not in self._values:
            raise VariableUnknown(f"the variable {name!r} has no value")
        return self._values[name]


def names_in(value: Any) -> Iterator[str | None]:
    """Every variable that a JSON value mentions; None for a `${` that is none."""
    if isinstance(value, str):
        for match in _PLACEHOLDER.finditer(value):
            if match[0] != "$${":
                yield match[1]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from names_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from names_in(item)
