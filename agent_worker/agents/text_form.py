"""Find the tool call in free text: a JSON object that names a tool, fenced or bare, repaired where it is nearly one."""

import ast
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from agent_worker.llm.contract import LLMToolCall

_NAMES = ("tool", "name", "function", "tool_name", "action")
_ARGUMENTS = ("arguments", "args", "parameters", "input", "tool_input", "action_input")
_THINKING = ("<think>", "</think>")
_FENCE = re.compile(r"```[\w-]*$")
# A string without an end goes to the end of the text, so that no text is scanned twice.
_QUOTED = r""""[^"\\]*+(?:\\.[^"\\]*+)*+"?|'[^'\\]*+(?:\\.[^'\\]*+)*+'?"""
_TOKEN = re.compile(_QUOTED + "|[{}]", re.DOTALL)
_STRING = re.compile(_QUOTED, re.DOTALL)
_TO_ESCAPE = re.compile(r'\\(.)|["\x00-\x1f]', re.DOTALL)
_ESCAPES = frozenset('"\\/bfnrtu')
_COMMA_BEHIND = re.compile(r",(\s*[}\]])")
_WORDS = {"True": "true", "False": "false", "None": "null"}
_WORD = re.compile(r"\b(?:True|False|None)\b")
_MOST_SCANNED = 500_000
"""Characters, over all places where an object may begin: a text full of braces must not hold up the worker."""


class NoCall(ValueError):
    """The text holds no usable call; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Found:
    """A call, and what the model said before it."""

    aside: str
    call: LLMToolCall


def find_call(text: str, tools: Collection[str]) -> Found:
    """The first call of one of these tools.

    Raises:
        NoCall: there is none.
    """
    text = _without_thinking(text)
    unknown: str | None = None
    for begin, candidate in _objects(text):
        name, arguments = _as_call(candidate)
        if name in tools:
            aside = _FENCE.sub("", text[:begin].rstrip()).strip()
            return Found(aside, LLMToolCall(name, orjson.dumps(arguments).decode()))
        unknown = unknown or name
    if unknown:
        raise NoCall(f"There is no tool {unknown[:64]!r} now. Use one of: {', '.join(tools)}.")
    form = '{"tool": "<name>", "arguments": {...}}'
    if "{" in text:
        raise NoCall(f"Your answer has no JSON object that can be read. Write one, whole and alone: {form}")
    raise NoCall(f"Plain text reaches nobody. Call a tool with one JSON object: {form}")


def _without_thinking(text: str) -> str:
    """The text without what a reasoning model thinks aloud, which may hold drafts of calls."""
    opens, closes = _THINKING
    parts: list[str] = []
    at = 0
    while (begin := text.find(opens, at)) >= 0 and (end := text.find(closes, begin)) >= 0:
        parts.append(text[at:begin])
        at = end + len(closes)
    return "".join([*parts, text[at:]])


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in the text; an object inside of another one only where the outer one is no call."""
    scanned = 0
    begin = text.find("{")
    while begin >= 0 and scanned < _MOST_SCANNED:
        end = _end_of_object(text, begin)
        scanned += (end or len(text)) - begin
        value = None if end is None else _parsed(text[begin:end])
        if value is not None:
            yield begin, value
        behind = end if end is not None and value is not None and _as_call(value)[0] else begin + 1
        begin = text.find("{", behind)


def _end_of_object(text: str, begin: int) -> int | None:
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _as_call(value: dict[str, Any]) -> tuple[str, Any]:
    key = next((key for key in _NAMES if isinstance(value.get(key), str)), None)
    if key is None:
        return "", None
    for name in _ARGUMENTS:
        if name in value:
            return value[key].strip(), _as_object(value[name])
    return value[key].strip(), {name: inner for name, inner in value.items() if name != key}


def _as_object(arguments: Any) -> Any:
    """The arguments, also when the model wrote them as text, or none as null."""
    if arguments is None:
        return {}
    parsed = _parsed(arguments) if isinstance(arguments, str) else None
    return arguments if parsed is None else parsed


def _parsed(text: str) -> dict[str, Any] | None:
    for read in (orjson.loads, _repaired, _as_python):
        try:
            value = read(text)
            orjson.dumps(value)  # a Python literal may hold what JSON cannot
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        return value if isinstance(value, dict) else None
    return None


def _repaired(text: str) -> Any:
    """JSON with single quotes, Python's words, trailing commas or raw line breaks."""
    parts: list[str] = []
    at = 0
    for found in _STRING.finditer(text):
        parts += [_outside(text[at : found.start()]), _as_json_string(found[0])]
        at = found.end()
    return orjson.loads("".join([*parts, _outside(text[at:])]))


def _outside(text: str) -> str:
    return _COMMA_BEHIND.sub(r"\1", _WORD.sub(lambda word: _WORDS[word[0]], text))


def _as_json_string(literal: str) -> str:
    return '"' + _TO_ESCAPE.sub(_escaped, literal[1:-1]) + '"'


def _escaped(found: re.Match[str]) -> str:
    behind_backslash = found[1]
    if behind_backslash is None:
        return r"\"" if found[0] == '"' else f"\\u{ord(found[0]):04x}"
    if behind_backslash in _ESCAPES:
        return found[0]
    return "'" if behind_backslash == "'" else orjson.dumps(found[0]).decode()[1:-1]


def _as_python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that Python does not know
        return ast.literal_eval(text)
