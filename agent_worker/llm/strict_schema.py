"""Make of any JSON Schema one that strict structured output accepts, and bring values back.

Strict mode knows types, `enum`, `const`, `anyOf`, `items` and `properties`:
every object is closed and every property required. So a property that may be
absent becomes one that may be null, and its null is taken away again; other
keywords move into the description, where the model reads them, and are judged
behind the model by whoever holds the whole schema. What has no strict form (a
free object, a recursion) is written by the model as JSON text. Providers differ
in what they accept; this is what all of them do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator

Back = Callable[[Any], Any]

_SCALARS = ("string", "integer", "number", "boolean", "null")
_SAID_OTHERWISE = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "properties", "required"}
    | {"additionalProperties", "items", "description", "title", "$schema", "$id", "$comment"}
)
_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Strict:
    """A strict schema and the way back from a value of it to a value of the original."""

    schema: dict[str, Any]
    back: Back


def strict(schema: Any, root: Mapping[str, Any], levels: int = _LEVELS) -> Strict:
    """The strict form of a schema; `root` holds the definitions that it refers to."""
    form = _form(schema, root, levels) if isinstance(schema, dict) and levels else None
    return form or _as_text(schema)


def strict_object(schema: Mapping[str, Any], root: Mapping[str, Any], levels: int = _LEVELS) -> Strict | None:
    """The strict form of an object with properties; None when it has no fixed properties."""
    properties = schema.get("properties") or {}
    if schema.get("patternProperties") or not isinstance(properties, dict):
        return None
    if not properties and schema.get("additionalProperties", True) is not False:
        return None
    required = schema.get("required") or ()
    made: dict[str, Strict] = {}
    absent: set[str] = set()
    for name, inner in properties.items():
        form = strict(inner, root, levels - 1)
        if name not in required and not _takes_null(form.schema):
            form = Strict({"anyOf": [form.schema, {"type": "null"}]}, _unless_null(form.back))
            absent.add(name)
        made[name] = form
    return Strict(_closed({name: form.schema for name, form in made.items()}), _object_back(made, absent))


def _form(schema: dict[str, Any], root: Mapping[str, Any], levels: int) -> Strict | None:
    if "$ref" in schema:
        target = _resolved(schema["$ref"], root)
        return None if target is None else _described(strict(target, root, levels - 1), schema)
    for several in ("anyOf", "oneOf"):
        if schema.get(several):
            return _described(_any_of([strict(branch, root, levels - 1) for branch in schema[several]]), schema)
    if (all_of := schema.get("allOf")) and len(all_of) == 1:
        return _described(strict(all_of[0], root, levels - 1), schema)
    if all_of:
        return None
    types = _types(schema)
    if types is None:
        return None
    forms = [_of_type(schema, one, root, levels) for one in types if _can_be(schema, one)]
    if None in forms:
        return None
    made = [form for form in forms if form is not None]
    if not made:
        return None
    return _described(made[0] if len(made) == 1 else _any_of(made), schema)


def _of_type(schema: dict[str, Any], type_: str, root: Mapping[str, Any], levels: int) -> Strict | None:
    if type_ == "object":
        return strict_object(schema, root, levels)
    if type_ == "array":
        if "prefixItems" in schema:
            return None
        items = strict(schema.get("items"), root, levels - 1)
        return Strict({"type": "array", "items": items.schema}, _array_back(items.back))
    if type_ not in _SCALARS:
        return None
    made: dict[str, Any] = {"type": type_}
    if "enum" in schema:
        made["enum"] = [value for value in schema["enum"] if type_ in _types_of(value)]
    if "const" in schema:
        made["const"] = schema["const"]
    return Strict(made, _as_it_is)


def _can_be(schema: Mapping[str, Any], type_: str) -> bool:
    """Whether one of the values that the schema lists is of the type."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return values is None or any(type_ in _types_of(value) for value in values)


def _types(schema: Mapping[str, Any]) -> Sequence[str] | None:
    said = schema.get("type")
    if isinstance(said, str):
        return (said,)
    if isinstance(said, list) and said:
        return said
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        found = dict.fromkeys(_types_of(value)[0] for value in values)
        return tuple(found) if all(type_ in _SCALARS for type_ in found) else None
    if "properties" in schema:
        return ("object",)
    return ("array",) if "items" in schema else None


def _types_of(value: Any) -> tuple[str, ...]:
    """The type names that a JSON value answers to."""
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case int():
            return ("integer", "number")
        case float():
            return ("number",)
        case str():
            return ("string",)
        case list():
            return ("array",)
    return ("object",)


def _resolved(ref: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    found: Any = root
    for part in ref[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _as_text(schema: Any) -> Strict:
    """What has no strict form is written as JSON text."""
    described = f"JSON as text, for the schema {orjson.dumps(schema).decode()}" if schema else "Any JSON, as text"
    said = schema.get("description") if isinstance(schema, dict) else None
    return Strict({"type": "string", "description": f"{said}. {described}" if said else described}, _from_text)


def _described(form: Strict, schema: Mapping[str, Any]) -> Strict:
    """The form with the words of the original, and with what strict mode cannot say as words."""
    kept = {name: value for name, value in schema.items() if name not in _SAID_OTHERWISE}
    said = str(schema.get("description") or form.schema.get("description") or "")
    limits = "; ".join(f"{name}: {orjson.dumps(value).decode()}" for name, value in kept.items())
    text = " ".join(part for part in (said, f"[{limits}]" if limits else "") if part)
    return Strict({**form.schema, "description": text}, form.back) if text else form


def _any_of(branches: list[Strict]) -> Strict:
    judged = [(Draft202012Validator(branch.schema), branch.back) for branch in branches]

    def back(value: Any) -> Any:
        return next((back(value) for fits, back in judged if fits.is_valid(value)), value)

    return Strict({"anyOf": [branch.schema for branch in branches]}, back)


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return Draft202012Validator(schema).is_valid(None)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _object_back(made: Mapping[str, Strict], absent: set[str]) -> Back:
    def back(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: made[name].back(inner) if name in made else inner
            for name, inner in value.items()
            if inner is not None or name not in absent
        }

    return back


def _array_back(items: Back) -> Back:
    return lambda value: [items(item) for item in value] if isinstance(value, list) else value


def _unless_null(back: Back) -> Back:
    return lambda value: None if value is None else back(value)


def _as_it_is(value: Any) -> Any:
    return value


def _from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
