"""Judge the JSON Schema of a tool's arguments: Draft 2020-12, an object, self-contained and of bounded size."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from maruntime.rules.lint import Problem
from orchestrator.catalog.validation import joined

MAX_BYTES = 64 * 1024
_MAX_DEPTH = 32
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)
_REFERENCES = ("$ref", "$dynamicRef")
_DATA = ("const", "enum", "default", "examples")
"""Keywords whose values are data, not schemas."""


def schema_problems(schema: dict[str, Any], path: str) -> Iterator[Problem]:
    """Everything that is wrong with a schema; what is too large is not looked into."""
    if len(orjson.dumps(schema)) > MAX_BYTES:
        yield Problem("too_large", path, f"At most {MAX_BYTES // 1024} KiB.")
        return
    if _depth(schema) > _MAX_DEPTH:
        yield Problem("too_deep", path, f"At most {_MAX_DEPTH} levels of nesting.")
        return
    found = [
        Problem("invalid_schema", joined(path, *error.absolute_path), _shortened(error.message))
        for error in sorted(_META.iter_errors(schema), key=lambda error: [str(part) for part in error.absolute_path])
    ]
    yield from found
    if schema.get("type") != "object":
        yield Problem("invalid_schema", f"{path}.type", 'The schema of a tool\'s arguments has `"type": "object"`.')
    if schema.get("$schema", _DRAFT).rstrip("#") != _DRAFT if isinstance(schema.get("$schema", ""), str) else False:
        yield Problem("invalid_schema", f"{path}.$schema", "Only Draft 2020-12 is known.")
    if found:
        return
    inner = list(_inner_problems(schema, schema, path))
    yield from inner
    if not inner and not _ends(schema):
        yield Problem("invalid_schema", path, "The schema refers to itself without end.")


def _inner_problems(node: Any, root: dict[str, Any], path: str, *, names: bool = False) -> Iterator[Problem]:
    """References that lead nowhere and patterns that do not compile; `names`: the keys are names, not keywords."""
    if isinstance(node, list):
        for place, item in enumerate(node):
            yield from _inner_problems(item, root, f"{path}[{place}]")
        return
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        at = joined(path, key)
        if names:
            yield from _inner_problems(value, root, at)
        elif key in _DATA:
            continue
        elif key in _REFERENCES:
            if not _leads_somewhere(value, root):
                yield Problem("invalid_schema", at, "Only a reference to a place in this schema: `#/$defs/…`.")
        elif key == "$id":
            yield Problem("invalid_schema", at, "A schema of a tool has no address of its own.")
        elif key == "pattern":
            yield from _pattern_problems(value, at)
        elif key == "patternProperties":
            for pattern in value:
                yield from _pattern_problems(pattern, joined(at, pattern))
            yield from _inner_problems(value, root, at, names=True)
        else:
            yield from _inner_problems(value, root, at, names=key in ("properties", "$defs", "dependentSchemas"))


def _pattern_problems(pattern: str, at: str) -> Iterator[Problem]:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        yield Problem("invalid_schema", at, "Is no regular expression.")


def _leads_somewhere(reference: str, root: Any) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    for part in reference[2:].split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(root, dict) and part in root:
            root = root[part]
        elif isinstance(root, list) and part.isdecimal() and int(part) < len(root):
            root = root[int(part)]
        else:
            return False
    return isinstance(root, dict | bool)


def _ends(schema: dict[str, Any]) -> bool:
    try:
        Draft202012Validator(schema).is_valid({})
    except RecursionError:
        return False
    return True


def _depth(node: Any) -> int:
    depth, level = 0, [node]
    while level:
        depth += 1
        children = ((node.values() if isinstance(node, dict) else node) for node in level)
        level = [child for some in children for child in some if isinstance(child, dict | list)]
    return depth


def _shortened(message: str) -> str:
    return f"{message[:200]}." if not message.endswith(".") else message[:200]
