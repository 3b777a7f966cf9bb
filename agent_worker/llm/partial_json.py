"""Read strings of a JSON object while the object is still being written.

For an answer that the model gives inside of JSON (a tool's argument, a field of
a structured reply): its text can be shown before the JSON is whole. Judges
nothing: whether it is valid JSON is decided by whoever parses it in the end;
here malformed text only ends or bends the preview.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

import orjson

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING_BODY = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPECIAL = re.compile(r'["\\]')
_SCALAR = re.compile(r"[^,}\]]*+")
_BRACKET = re.compile(r'["{}\[\]]')
_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNREADABLE = "\ufffd"

Path = tuple[str | None, ...]
"""Keys from the root on; None stands for each item of an array."""


@dataclass(frozen=True, slots=True)
class Piece:
    """More of one string; `ends` with its last piece."""

    path: Path
    text: str
    ends: bool


@dataclass(frozen=True, slots=True)
class _Container:
    """An object or array that is open and watched."""

    path: Path
    is_array: bool


class _At(Enum):
    """Where in the text the reader stands."""

    START = auto()
    KEY = auto()
    IN_KEY = auto()
    COLON = auto()
    ITEM = auto()
    VALUE = auto()
    IN_WATCHED = auto()
    IN_STRING = auto()
    IN_SCALAR = auto()
    IN_NESTED = auto()
    IN_NESTED_STRING = auto()
    END = auto()


class StringsReader:
    """Gives the characters of the strings at `paths` as they arrive, in the order in which they stand.

    Of a key that is repeated the first string counts; other types are passed
    over. A lone surrogate becomes U+FFFD, as it could not be sent on.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = set(paths)
        self._on_the_way = {path[:length] for path in paths for length in range(len(path))}
        self._at = _At.START
        self._text = ""
        self._pos = 0
        self._depth = 0
        self._key: list[str] = []
        self._open: list[_Container] = []
        self._path: Path = ()
        self._out: list[str] = []
        self._pieces: list[Piece] = []
        self._steps = {
            _At.START: self._start,
            _At.KEY: self._before_key,
            _At.IN_KEY: self._in_key,
            _At.COLON: self._before_colon,
            _At.ITEM: self._before_item,
            _At.VALUE: self._before_value,
            _At.IN_WATCHED: self._in_watched,
            _At.IN_STRING: self._in_string,
            _At.IN_SCALAR: self._in_scalar,
            _At.IN_NESTED: self._in_nested,
            _At.IN_NESTED_STRING: self._in_nested_string,
        }

    @property
    def done(self) -> bool:
        """Whether no further characters can come."""
        return self._at is _At.END

    def feed(self, fragment: str) -> list[Piece]:
        """The pieces that this fragment completes."""
        if self.done:
            return []
        self._text = self._text[self._pos :] + fragment
        self._pos = 0
        while self._at is not _At.END and self._steps[self._at]():
            pass
        if self.done:
            self._text, self._pos = "", 0
        if self._out:
            self._tell(ends=False)
        pieces, self._pieces = self._pieces, []
        return pieces

    # Each step moves on as far as the text reaches and returns whether it got
    # to another state. What it could not use yet stays before the next fragment:
    # an unfinished escape at most, so no text is scanned twice.

    def _start(self) -> bool:
        char = self._next_char()
        if char is None:
            return False
        self._pos += 1
        return self._enter(_Container((), is_array=False)) if char == "{" else self._to(_At.END)

    def _before_key(self) -> bool:
        char = self._next_char()
        if char is None:
            return False
        self._pos += 1
        if char == "}":
            return self._leave()
        return self._to({'"': _At.IN_KEY, ",": _At.KEY}.get(char, _At.END))

    def _in_key(self) -> bool:
        body, closed = self._string_body()
        self._key.append(body)
        if not closed:
            return False
        key = _decoded("".join(self._key))
        self._key.clear()
        self._path = (*self._open[-1].path, "\0unreadable" if key is None else key)
        return self._to(_At.COLON)

    def _before_colon(self) -> bool:
        char = self._next_char()
        if char is None:
            return False
        self._pos += 1
        return self._to(_At.VALUE if char == ":" else _At.END)

    def _before_item(self) -> bool:
        char = self._next_char()
        if char is None:
            return False
        if char == ",":
            self._pos += 1
            return self._to(_At.ITEM)
        if char == "]":
            self._pos += 1
            return self._leave()
        self._path = (*self._open[-1].path, None)
        return self._to(_At.END if char == "}" else _At.VALUE)

    def _before_value(self) -> bool:
        first = self._next_char()
        if first is None:
            return False
        if first == '"':
            self._pos += 1
            return self._to(_At.IN_WATCHED if self._path in self._paths else _At.IN_STRING)
        if first in "{[":
            container = _Container(self._path, is_array=first == "[")
            if self._leads_on(container):
                self._pos += 1
                return self._enter(container)
            return self._to(_At.IN_NESTED)
        return self._to(_At.IN_SCALAR)

    def _in_string(self) -> bool:
        return self._string_body()[1] and self._behind_value()

    def _in_nested_string(self) -> bool:
        return self._string_body()[1] and self._to(_At.IN_NESTED)

    def _in_scalar(self) -> bool:
        self._pos = _end(_SCALAR, self._text, self._pos)
        return self._pos < len(self._text) and self._behind_value()

    def _in_nested(self) -> bool:
        while found := _BRACKET.search(self._text, self._pos):
            self._pos = found.end()
            if found[0] == '"':
                return self._to(_At.IN_NESTED_STRING)
            self._depth += 1 if found[0] in "{[" else -1
            if self._depth == 0:
                return self._behind_value()
        self._pos = len(self._text)
        return False

    def _in_watched(self) -> bool:
        while found := _SPECIAL.search(self._text, self._pos):
            self._out.append(self._text[self._pos : found.start()])
            self._pos = found.start()
            if found[0] == '"':
                self._pos += 1
                self._tell(ends=True)
                if None not in self._path:
                    self._paths.discard(self._path)
                return self._behind_value()
            if not self._escape():
                return False
        self._out.append(self._text[self._pos :])
        self._pos = len(self._text)
        return False

    def _tell(self, *, ends: bool) -> None:
        text = "".join(self._out)
        self._out.clear()
        if text or ends:
            self._pieces.append(Piece(self._path, text, ends))

    def _leads_on(self, container: _Container) -> bool:
        inner = (*container.path, None)
        if container.is_array:
            return inner in self._paths or inner in self._on_the_way
        return container.path in self._on_the_way

    def _enter(self, container: _Container) -> bool:
        self._open.append(container)
        return self._to(_At.ITEM if container.is_array else _At.KEY)

    def _leave(self) -> bool:
        self._open.pop()
        return self._behind_value() if self._open else self._to(_At.END)

    def _behind_value(self) -> bool:
        return self._to(_At.ITEM if self._open[-1].is_array else _At.KEY)

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

    def _next_char(self) -> str | None:
        """The next character that is no space, not yet passed; None when it has not come."""
        self._pos = _end(_SPACE, self._text, self._pos)
        return self._text[self._pos] if self._pos < len(self._text) else None

    def _to(self, state: _At) -> bool:
        self._at = state
        return True


class StringFieldReader:
    """Gives the characters of the first string under the top-level key `field`."""

    def __init__(self, field: str) -> None:
        self._strings = StringsReader((field,))
        self._has_ended = False

    @property
    def done(self) -> bool:
        """Whether no further characters can come."""
        return self._has_ended or self._strings.done

    def feed(self, fragment: str) -> str:
        """The characters of the field that this fragment completes."""
        if self.done:
            return ""
        pieces = self._strings.feed(fragment)
        self._has_ended = any(piece.ends for piece in pieces)
        return "".join(piece.text for piece in pieces)


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
