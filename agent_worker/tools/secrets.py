"""Secrets by name: their values are filled into a request, and taken out of whatever comes back.

A value comes from `MARUNTIME_SECRET__<NAME>` or from a file of a mounted
folder (the file's name is the secret's). Nothing here logs a value or shows it
in a `repr`. A value that a server returns in a form of its own making (hashed,
reversed, in pieces) is not recognised.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import orjson

from maruntime.errors import MaruntimeError

_PREFIX = "MARUNTIME_SECRET__"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLACE = re.compile(r"\$\{secret:([a-z][a-z0-9_]{0,63})\}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_SHORTEST = 8
_LARGEST = 16 * 1024
_TELLING_PART = 4


class SecretMissing(MaruntimeError):
    """This worker does not have a secret that the tool names."""

    code = "secret_missing"


class NamedSecrets:
    """The secrets of this worker."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name: _checked(name, value) for name, value in values.items()}
        self._forms = {form: name for name, value in self._values.items() for form in _forms(value)}
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def load(cls, environ: Mapping[str, str], folder: Path | None = None) -> "NamedSecrets":
        """Collect what the environment and the folder hold; done once, at start.

        Raises:
            ValueError: a name or a value cannot be used, or a name is given twice. The value is not quoted.
        """
        values = {name[len(_PREFIX) :].lower(): value for name, value in environ.items() if name.startswith(_PREFIX)}
        values = {name: value for name, value in values.items() if value}
        for path in sorted(folder.iterdir()) if folder is not None else ():
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.name.lower() in values:
                raise ValueError(f"the secret {path.name.lower()} is given twice")
            values[path.name.lower()] = _read(path)
        return cls(values)

    def __repr__(self) -> str:
        return f"NamedSecrets({', '.join(sorted(self._values))})"

    @property
    def names(self) -> frozenset[str]:
        """What may be named."""
        return frozenset(self._values)

    def fill(self, text: str) -> str:
        """The text with every `${secret:name}` replaced by its value.

        Raises:
            SecretMissing: a secret is named that is not here.
        """

        def value(match: re.Match[str]) -> str:
            if match[1] not in self._values:
                raise SecretMissing(f"This worker has no secret {match[1]!r}.")
            return self._values[match[1]]

        return _PLACE.sub(value, text)

    def redact(self, text: str, *, is_cut: bool = False) -> str:
        """The text with `[secret:name]` for every value, also where it is percent-encoded, escaped or in base64.

        Where the text was cut, a value's beginning at its very end goes too.
        """
        if self._pattern is None:
            return text
        if is_cut:
            text = self._without_cut_value(text)
        return self._pattern.sub(lambda match: f"[secret:{self._forms[match[0]]}]", text)

    def _without_cut_value(self, text: str) -> str:
        for form, name in self._forms.items():
            for length in range(min(len(form) - 1, len(text)), _TELLING_PART - 1, -1):
                if text.endswith(form[:length]):
                    return f"{text[:-length]}[secret:{name}]"
        return text


def secret_names(text: str) -> tuple[str, ...]:
    """The secrets that a text names."""
    return tuple(_PLACE.findall(text))


def without_secret_names(text: str) -> str:
    """The text around the secrets' names."""
    return _PLACE.sub("", text)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LARGEST + 2)
    return content.decode("utf-8", "strict").removesuffix("\n").removesuffix("\r")


def _checked(name: str, value: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a secret: use lower-case letters, digits and _")
    if not _SHORTEST <= len(value) <= _LARGEST:
        raise ValueError(f"the secret {name} must have {_SHORTEST} to {_LARGEST} characters")
    if _UNPRINTABLE.search(value):
        raise ValueError(f"the secret {name} holds a control character")
    return value


def _forms(value: str) -> set[str]:
    encoded = quote(value, safe="")
    return {
        value,
        encoded,
        re.sub("%..", lambda match: match[0].lower(), encoded),
        quote(value),
        orjson.dumps(value).decode()[1:-1],
        *_in_base64(value.encode()),
    }


def _in_base64(raw: bytes) -> set[str]:
    """The value in base64, also behind a user's name: what stands before and behind it changes only its edges."""
    forms = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(raw).decode().rstrip("="))
        for shift in range(3):
            begin, end = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            forms.add(encode(bytes(shift) + raw).decode()[begin:end])
    return forms
