"""Read one string property of a JSON object while the object is still being written.

For an answer that the model gives as a tool's argument: its text can be shown
before the call is whole. Judges nothing: whether the arguments are valid JSON
is decided by whoever parses them in the end; here malformed text only ends or
bends the preview.
"""

import re
from enum import Enum, auto

import orjson

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING_BODY = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPECIAL = re.compile(r'["\\]')
_SCALAR = re.compile(r"[^,}]*+")
_BRACKET = re.compile(r'["{}\[\]]')
_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNREADABLE = "\ufffd"


class _At(Enum):
    """Where in the object the reader stands."""

    START = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    VALUE = auto()
    IN_FIELD = auto()
    IN_STRING = auto()
    IN_SCALAR = auto()
    IN_NESTED = auto()
    IN_NESTED_STRING = auto()
    END = auto()


class StringFieldReader:
    """Gives the characters of the top-level string property `field` as they arrive.

    The first string under that key counts; other types are passed over. A lone
    surrogate becomes U+FFFD, as it could not be sent on.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._at = _At.START
        self._text = ""
        self._pos = 0
        self._depth = 0
        self._key: list[str] = []
        self._is_field = False
        self._out: list[str] = []
        self._steps = {
            _At.START: self._start,
            _At.KEY: self._before_key,
            _At.IN_KEY: self._in_key,
            _At.COLON: self._before_colon,
            _At.VALUE: self._before_value,
            _At.IN_FIELD: self._in_field,
            _At.IN_STRING: self._in_string,
            _At.IN_SCALAR: self._in_scalar,
            _At.IN_NESTED: self._in_nested,
            _At.IN_NESTED_STRING: self._in_nested_string,
        }

    @property
    def done(self) -> bool:
        """Whether no further characters can come."""
        return self._at is _At.END

    def feed(self, fragment: str) -> str:
        """The characters of the field that this fragment completes."""
        if self.done:
            return ""
        self._text = self._text[self._pos :] + fragment
        self._pos = 0
        while self._at is not _At.END and self._steps[self._at]():
            pass
        if self.done:
            self._text, self._pos = "", 0
        out = "".join(self._out)
        self._out.clear()
        return out

    # Each step moves on as far as the text reaches and returns whether it got
    # to another state. What it could not use yet stays before the next fragment:
    # an unfinished escape at most, so no text is scanned twice.

    def _start(self) -> bool:
        return self._moves({"{": _At.KEY})

    def _before_key(self) -> bool:
        return self._moves({'"': _At.IN_KEY, ",": _At.KEY})

    def _in_key(self) -> bool:
        body, closed = self._string_body()
        self._key.append(body)
        if not closed:
            return False
        self._is_field = _decoded("".join(self._key)) == self._field
        self._key.clear()
        return self._to(_At.COLON)

    def _before_colon(self) -> bool:
        return self._moves({":": _At.VALUE})

    def _before_value(self) -> bool:
        self._skip_space()
        if self._pos == len(self._text):
            return False
        first = self._text[self._pos]
        if first == '"':
            self._pos += 1
            return self._to(_At.IN_FIELD if self._is_field else _At.IN_STRING)
        return self._to(_At.IN_NESTED if first in "{[" else _At.IN_SCALAR)

    def _in_string(self) -> bool:
        return self._string_body()[1] and self._to(_At.KEY)

    def _in_nested_string(self) -> bool:
        return self._string_body()[1] and self._to(_At.IN_NESTED)

    def _in_scalar(self) -> bool:
        self._pos = _end(_SCALAR, self._text, self._pos)
        return self._pos < len(self._text) and self._to(_At.KEY)

    def _in_nested(self) -> bool:
        while found := _BRACKET.search(self._text, self._pos):
            self._pos = found.end()
            if found[0] == '"':
                return self._to(_At.IN_NESTED_STRING)
            self._depth += 1 if found[0] in "{[" else -1
            if self._depth == 0:
                return self._to(_At.KEY)
        self._pos = len(self._text)
        return False

    def _in_field(self) -> bool:
        while found := _SPECIAL.search(self._text, self._pos):
            self._out.append(self._text[self._pos : found.start()])
            self._pos = found.start()
            if found[0] == '"':
                return self._to(_At.END)
            if not self._escape():
                return False
        self._out.append(self._text[self._pos :])
        self._pos = len(self._text)
        return False

    def _escape(self) -> bool:
        """Decode the escape here; False when it is not whole yet."""
        text, start = self._text, self._pos
        left = len(text) - start
        if left < 2:
            return False
        if text[start + 1] != "u":
            self._emit(_SIMPLE.get(text[start + 1], text[start + 1]), start + 2)
            return True
        if left < 6:
            return False
        high = _code_unit(text, start)
        if high is None:
            self._emit(_UNREADABLE, start + 2)
        elif not 0xD800 <= high <= 0xDFFF:
            self._emit(chr(high), start + 6)
        elif high >= 0xDC00:
            self._emit(_UNREADABLE, start + 6)
        else:
            return self._surrogates(high, start + 6)
        return True

    def _surrogates(self, high: int, second: int) -> bool:
        rest = self._text[second : second + 6]
        if len(rest) < 6 and (rest[:2] == "\\u" or rest in ("", "\\")):
            return False
        low = _code_unit(self._text, second)
        if low is not None and 0xDC00 <= low <= 0xDFFF:
            self._emit(chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), second + 6)
        else:
            self._emit(_UNREADABLE, second)
        return True

    def _emit(self, text: str, end: int) -> None:
        self._out.append(text)
        self._pos = end

    def _string_body(self) -> tuple[str, bool]:
        """What there is of a string's raw body, and whether its end was reached."""
        start = self._pos
        end = self._pos = _end(_STRING_BODY, self._text, start)
        closed = end < len(self._text) and self._text[end] == '"'
        if closed:
            self._pos += 1
        return self._text[start:end], closed

    def _moves(self, table: dict[str, _At]) -> bool:
        self._skip_space()
        if self._pos == len(self._text):
            return False
        char = self._text[self._pos]
        self._pos += 1
        return self._to(table.get(char, _At.END))

    def _skip_space(self) -> None:
        self._pos = _end(_SPACE, self._text, self._pos)

    def _to(self, state: _At) -> bool:
        self._at = state
        return True


def _end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    found = pattern.match(text, pos)
    return found.end() if found else pos


def _code_unit(text: str, start: int) -> int | None:
    return int(text[start + 2 : start + 6], 16) if _UNICODE.match(text, start) else None


def _decoded(body: str) -> str | None:
    if "\\" not in body:
        return body
    try:
        return orjson.loads(f'"{body}"')
    except orjson.JSONDecodeError:
        return None
