"""Read a definition that somebody sent, and find everything that is wrong with its form.

A mistake is a `Problem` with its JSON path; reading goes on behind it, so that
one answer names them all. Nothing is coerced: `"1"` is not a number.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from maruntime.domain.rule import json_path
from maruntime.errors import DefinitionInvalid
from maruntime.rules.lint import Problem

_MAX_PROBLEMS = 100
_MAX_DEPTH = 64
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_PLAIN = re.compile(r"[\x20-\x7e]*")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Draft(Generic[M]):
    """What could be read: the model is None when a required field is missing or wrong.

    `sound` are the fields that were read as sent; the others hold a default in
    `partial`, so that what does not depend on them can still be checked.
    """

    model: M | None
    partial: M
    sound: frozenset[str]
    problems: tuple[Problem, ...]


def read(model: type[M], given: Mapping[str, Any], placeholders: Mapping[str, Any]) -> Draft[M]:
    """Read a definition; `placeholders` stand for required fields that are missing or wrong."""
    problems = list(unstorable(given))
    if problems:
        return Draft(None, _validated(model, placeholders), frozenset(), tuple(problems))
    try:
        whole = _validated(model, given)
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_url=False, include_context=False)
        problems = [Problem(_code_of(e["type"]), json_path(e["loc"]), _sentence(e["msg"])) for e in errors]
        broken = {e["loc"][0] for e in errors if e["loc"]}
        sound = {name: value for name, value in given.items() if name not in broken}
        try:
            partial = _validated(model, {**placeholders, **sound})
        except ValidationError:  # a rule between fields: nothing can be said of the rest
            sound, partial = {}, _validated(model, placeholders)
        return Draft(None, partial, frozenset(sound) | (frozenset(model.model_fields) - broken), tuple(problems))
    return Draft(whole, whole, frozenset(model.model_fields), ())


def refuse(problems: Sequence[Problem]) -> None:
    """Refuse a definition that has an error; warnings pass.

    Raises:
        DefinitionInvalid: `param` is the place of the first error; `problems` has all of them.
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return
    first = errors[0]
    message = f"{first.path}: {first.message}" if first.path else first.message
    if first.counterexample is not None:
        message += f" It happens with {orjson.dumps(first.counterexample.to_json()).decode()}."
    if len(errors) > 1:
        message += f" ({len(errors) - 1} more in `problems`.)"
    shown = [problem.to_json() for problem in problems[:_MAX_PROBLEMS]]
    raise DefinitionInvalid(message, param=first.path or None, problems=shown)


def unstorable(value: Any, path: str = "", depth: int = 0) -> Iterable[Problem]:
    """What no database or model can take: NUL, lone surrogates, endless nesting."""
    if depth > _MAX_DEPTH:
        yield Problem("too_deep", path, f"More than {_MAX_DEPTH} levels of nesting.")
    elif isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield Problem("invalid_text", path, "The text has a character that cannot be stored (NUL).")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if _UNSTORABLE.search(key):
                yield Problem("invalid_text", path, "A key has a character that cannot be stored (NUL).")
                continue
            yield from unstorable(item, joined(path, key), depth + 1)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from unstorable(item, f"{path}[{place}]", depth + 1)


def joined(path: str, *parts: str | int) -> str:
    """The path of something inside of another; a key that is no identifier stands in brackets."""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _IDENTIFIER.fullmatch(part):
            path += f".{part}" if path else part
        else:
            path += f"[{orjson.dumps(part[:64]).decode()}]"
    return path


def text_problems(
    path: str, texts: Sequence[str], *, at_most: int, longest: int, plain: bool = False
) -> Iterable[Problem]:
    """A list of short texts: how many, how long, none blank, none twice."""
    if len(texts) > at_most:
        yield Problem("too_many", path, f"At most {at_most}.")
        return
    seen: set[str] = set()
    for place, text in enumerate(texts):
        at = f"{path}[{place}]"
        if not text.strip():
            yield Problem("blank", at, "Must not be blank.")
        elif len(text) > longest:
            yield Problem("too_long", at, f"At most {longest} characters.")
        elif text.strip().casefold() in seen:
            yield Problem("duplicate", at, "Is there twice.")
        elif plain and not _PLAIN.fullmatch(text):
            yield Problem("invalid_text", at, "Only printable ASCII.")
        seen.add(text.strip().casefold())


def merged(base: Any, changes: Any) -> Any:
    """The base with the changes: objects field by field, all else is replaced, null gives the default back."""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def differences(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """What differs between two definitions: JSON path, `before` and `after`; what is absent has no key."""
    if before == after and type(before) is type(after):
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[dict[str, Any]] = []
        for key in [*before, *(key for key in after if key not in before)]:
            found += _difference(before, after, key, joined(path, key))
        return found
    if _is_of_objects(before) and _is_of_objects(after):
        found = []
        for place in range(max(len(before), len(after))):
            found += _difference(dict(enumerate(before)), dict(enumerate(after)), place, f"{path}[{place}]")
        return found
    return [{"path": path, "before": before, "after": after}]


def _difference(before: Mapping[Any, Any], after: Mapping[Any, Any], key: Any, path: str) -> list[dict[str, Any]]:
    if key not in after:
        return [{"path": path, "before": before[key]}]
    if key not in before:
        return [{"path": path, "after": after[key]}]
    return differences(before[key], after[key], path)


def _is_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _validated(model: type[M], given: Mapping[str, Any]) -> M:
    # JSON in strict mode: a list is a tuple and a text an enum's value there, and nothing else is bent.
    return model.model_validate_json(orjson.dumps(given), strict=True)


def _code_of(kind: str) -> str:
    return {"missing": "required", "extra_forbidden": "unknown_field"}.get(kind, "invalid_value")


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").rstrip(".")
    text = {"Extra inputs are not permitted": "There is no such field", "Field required": "Is required"}.get(text, text)
    return f"{text[:1].upper()}{text[1:]}."
