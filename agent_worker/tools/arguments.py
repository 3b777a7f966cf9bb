"""Read what the model wrote as arguments, and say in its language what is wrong with it."""

import re
from functools import lru_cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from maruntime.domain.tool import ToolDescriptor

_QUOTED = 300
_PROBLEMS = 5
_DEPTH = 64
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class ArgumentsInvalid(ValueError):
    """The arguments cannot be used; the text is for the model."""


def clean_text(text: str) -> str:
    """The text without what a database cannot store (NUL and lone surrogates)."""
    return _UNSTORABLE.sub("\ufffd", text)


def read_arguments(tool: ToolDescriptor, raw: str) -> dict[str, Any]:
    """Decode and validate the arguments of a call.

    Raises:
        ArgumentsInvalid: not JSON, not an object, nested too deeply to be sent on,
            or not what the tool's schema says.
    """
    try:
        arguments = orjson.loads(raw.encode("utf-8", "replace"))
    except orjson.JSONDecodeError as exc:
        raise ArgumentsInvalid(f"The arguments are not valid JSON ({exc}): {raw[:_QUOTED]}") from exc
    if not isinstance(arguments, dict):
        raise ArgumentsInvalid(f"The arguments must be a JSON object: {raw[:_QUOTED]}")
    arguments = _cleaned(arguments, _DEPTH)
    problems = sorted(_validator(tool).iter_errors(arguments), key=lambda error: error.json_path)
    if problems:
        told = "; ".join(f"{error.json_path}: {error.message[:_QUOTED]}" for error in problems[:_PROBLEMS])
        raise ArgumentsInvalid(f"The arguments do not fit the schema of {tool.name}: {told}")
    return arguments


def _cleaned(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if levels == 0 and isinstance(value, (list, dict)):
        raise ArgumentsInvalid(f"The arguments are nested more than {_DEPTH} levels deep.")
    if isinstance(value, list):
        return [_cleaned(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _cleaned(item, levels - 1) for key, item in value.items()}
    return value


def _validator(tool: ToolDescriptor) -> Draft202012Validator:
    return _compiled(orjson.dumps(tool.parameters))


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> Draft202012Validator:
    return Draft202012Validator(orjson.loads(schema))
