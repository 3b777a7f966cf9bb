"""Make the messages of a step fit what a prompt may hold.

Tokens are estimated, on the careful side: three ASCII characters to a token,
two of other scripts, one of ideographs and emoji. What gives way, in order:
old tool results and long arguments (a line with their beginning and the names
of artifacts stays), then whole old messages (one summary of a line each stays;
it is extracted, no model is asked), then the middle of what is longest. The
system prompts, the user's latest message and a result behind every call always
stay. Pure: the same messages give the same prompt.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

Wire = dict[str, Any]

_LEADING = frozenset({"system", "developer"})
_OVERHEAD = 6
_WIDE = re.compile("[\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00010000-\U0010ffff]")
_ARTIFACT = re.compile(r"\bart_[0-9A-Za-z]+")
_PREVIEW = 160
_LINE = 120
_LONG_ARGUMENTS = 400
_CUT_NOTE = "\n[… {} characters left out …]\n"
_SMALLEST_CUT = 24


def estimated_tokens(text: str) -> int:
    """How many tokens a text may be, rather too many than too few."""
    if text.isascii():
        return -(-len(text) // 3)
    ascii_ = len(text.encode("ascii", "ignore"))
    wide = len(text) - len(_WIDE.sub("", text))
    return -(-ascii_ // 3) + wide + -(-(len(text) - ascii_ - wide) // 2)


def message_tokens(message: Wire) -> int:
    """How many tokens a message may be, with what frames it."""
    tokens = _OVERHEAD + estimated_tokens(_text(message)) + estimated_tokens(message.get("tool_call_id") or "")
    for call in message.get("tool_calls", ()):
        function = call["function"]
        tokens += _OVERHEAD + sum(map(estimated_tokens, (call["id"], function["name"], function["arguments"])))
    return tokens


def fitted(messages: Sequence[Wire], room: int) -> list[Wire]:
    """The messages within `room` tokens; as they are when they fit."""
    if _total(messages) <= room:
        return list(messages)
    units = _units(messages)
    newest = next((unit for unit in reversed(units) if not unit.stays), None)
    _shorten_tools([unit for unit in units if unit is not newest], _total(messages) - room)
    units = _summed_up(units, newest, room)
    _cut_longest(units, room)
    return [message for unit in units for message in unit.messages]


@dataclass(slots=True, eq=False)
class _Unit:
    """Messages that stay or go together: one, or a call with its results. Equal ones are still two."""

    messages: list[Wire]
    stays: bool = False

    @property
    def tokens(self) -> int:
        return _total(self.messages)


def _total(messages: Iterable[Wire]) -> int:
    return sum(map(message_tokens, messages))


def _units(messages: Sequence[Wire]) -> list[_Unit]:
    units: list[_Unit] = []
    for message in messages:
        if message["role"] == "tool" and units:
            units[-1].messages.append(dict(message))
        else:
            units.append(_Unit([dict(message)], stays=message["role"] in _LEADING))
    asked = [unit for unit in units if unit.messages[0]["role"] == "user"]
    for unit in asked[-1:]:
        unit.stays = True
    if asked and len(asked) > 1 and _is_platforms(asked[-1]):
        asked[-2].stays = True
    return units


def _is_platforms(unit: _Unit) -> bool:
    return _text(unit.messages[0]).startswith("[platform] ")


def _shorten_tools(units: Iterable[_Unit], excess: int) -> None:
    """Make old results and arguments one line each, the oldest first, until the excess is gone."""
    for unit in units:
        for message in unit.messages:
            if excess <= 0:
                return
            before = message_tokens(message)
            if message["role"] == "tool":
                message["content"] = _shorter(_text(message))
            elif message.get("tool_calls"):
                message["tool_calls"] = [_with_short_arguments(call) for call in message["tool_calls"]]
            excess -= before - message_tokens(message)


def _shorter(text: str) -> str:
    artifacts = " ".join(dict.fromkeys(_ARTIFACT.findall(text)))
    note = f"[shortened from {len(text)} characters{'; ' + artifacts if artifacts else ''}] {_line(text, _PREVIEW)}"
    return note if len(note) < len(text) else text


def _with_short_arguments(call: Wire) -> Wire:
    function = call["function"]
    said = function["arguments"]
    if len(said) <= _LONG_ARGUMENTS:
        return call
    # Still an object, as providers want it.
    short = orjson.dumps({"shortened": _line(said, _PREVIEW)}).decode()
    return {**call, "function": {**function, "arguments": short}}


def _summed_up(units: list[_Unit], newest: _Unit | None, room: int) -> list[_Unit]:
    """Without the oldest messages, as many as must go, and with a summary in their place; `newest` goes last."""
    total = sum(unit.tokens for unit in units)
    if total <= room:
        return units
    for_summary = min(512, room // 8)
    gone: list[_Unit] = []
    left = list(units)
    for unit in units:
        if total + for_summary <= room:
            break
        if not unit.stays and unit is not newest:
            gone.append(unit)
            left.remove(unit)
            total -= unit.tokens
    if newest is not None and _least(left) + for_summary > room:
        gone.append(newest)
        left.remove(newest)
    if not gone:
        return units
    lead = next((place for place, unit in enumerate(left) if unit.messages[0]["role"] not in _LEADING), len(left))
    return [*left[:lead], _Unit([_summary(gone, for_summary)]), *left[lead:]]


def _least(units: Iterable[_Unit]) -> int:
    """What would be left if all that can be cut were cut."""
    messages = [message for unit in units for message in unit.messages]
    return sum(min(message_tokens(message), message_tokens(_emptied(message)) + _SMALLEST_CUT) for message in messages)


def _emptied(message: Wire) -> Wire:
    calls = [{**call, "function": {**call["function"], "arguments": "{}"}} for call in message.get("tool_calls", ())]
    return {**message, "content": "", **({"tool_calls": calls} if calls else {})}


def _summary(gone: Sequence[_Unit], room: int) -> Wire:
    messages = [message for unit in gone for message in unit.messages]
    head = f"[earlier: {len(messages)} messages, in short]"
    lines: list[str] = []
    left = room - _OVERHEAD - estimated_tokens(head)
    for message in reversed(messages):  # of much, the latest is worth most
        line = f"\n- {_who(message)}: {_line(_said(message), _LINE)}"
        left -= estimated_tokens(line)
        if left < 0:
            break
        lines.append(line)
    return {"role": "user", "content": head + "".join(reversed(lines))}


def _who(message: Wire) -> str:
    return "result" if message["role"] == "tool" else message["role"]


def _said(message: Wire) -> str:
    called = ", ".join(f"called {call['function']['name']}" for call in message.get("tool_calls", ()))
    return " ".join(part for part in (_text(message), called) if part)


def _cut_longest(units: Sequence[_Unit], room: int) -> None:
    """Cut the middle out of the longest texts, then the arguments, until all fits or nothing can give way."""
    messages = [message for unit in units for message in unit.messages]
    excess = _total(messages) - room
    for message in sorted(messages, key=_worth_cutting, reverse=True):
        if excess <= 0:
            return
        before = message_tokens(message)
        if message.get("tool_calls"):
            message["tool_calls"] = [_with_short_arguments(call) for call in message["tool_calls"]]
        saved = before - message_tokens(message)
        text = _text(message)
        tokens = estimated_tokens(text)
        if saved < excess and tokens > _SMALLEST_CUT:
            message["content"] = _middle_cut(text, max(tokens - (excess - saved), _SMALLEST_CUT))
        excess -= before - message_tokens(message)


def _worth_cutting(message: Wire) -> tuple[bool, int]:
    """Results and answers before what the user and the template said."""
    return message["role"] not in ("user", *_LEADING), message_tokens(message)


def _middle_cut(text: str, tokens: int) -> str:
    """Beginning and end of a text within so many tokens."""
    note = _CUT_NOTE.format(len(text))
    keep = len(text)
    while keep > 0:
        head, tail = text[: keep - keep // 3], text[len(text) - keep // 3 :]
        cut = f"{head}{note}{tail}"
        over = estimated_tokens(cut) - tokens
        if over <= 0:
            return cut
        keep -= max(over, keep // 50)
    return note if estimated_tokens(note) < estimated_tokens(text) else text


def _line(text: str, length: int) -> str:
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length and len(text) <= 4 * length else flat[: length - 1] + "…"


def _text(message: Wire) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""
