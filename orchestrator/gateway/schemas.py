"""Read the bodies that clients send on the OpenAI wire.

`FIELDS` is the whole policy: a field that is in no row is refused as unknown, a
null is as good as an absent field everywhere. Every refusal is an `Invalid`
that names its place (`messages[1].content`). Nothing is coerced: a boolean is
not an integer, `"1"` is not a number. What a later release will honour (client
tools, answer schemas, images) is refused until then, never dropped in silence.
The 8 MiB limit of a transcript is not judged here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.errors import Invalid, UnknownParameter, UnsupportedParameter
from orchestrator.gateway.model_reference import ModelReference, parse_model

MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_CALLS = 128
MAX_BIASES = 1024
_MAX_STOP = 1024

_NAME_LENGTH = 64
_USER_LENGTH = 512
_SHOWN_LENGTH = 64
_INT32 = 2**31 - 1
_INT64 = 2**63 - 1

Reader = Callable[[Any, str], Any]
"""Takes a value and its path; gives what is kept or raises `Invalid`."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion as the gateway understands it."""

    model: ModelReference
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    llm_parameters: dict[str, Any] = field(default_factory=dict)
    response_format: dict[str, Any] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    user: str | None = None

    @property
    def continue_session(self) -> str | None:
        """The session that `metadata.session_id` asks to continue."""
        return self.metadata.get("session_id")


def decode_json(body: bytes) -> Any:
    """Decode a request body, which must be a JSON object.

    Of a key that is there twice the last one counts.

    Raises:
        Invalid: it is not UTF-8, not JSON, nested too deeply or no object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise Invalid(_why_not_json(body, exc)) from exc
    if not isinstance(value, dict):
        raise Invalid("The request body must be a JSON object.")
    return value


def parse_chat_request(body: Any) -> ChatRequest:
    """Read the body of `POST /v1/chat/completions`.

    Raises:
        Invalid: a field is unknown, not supported, missing or wrong; `param` says which.
        ModelNotFound: `model` starts like a session id and is none.
    """
    given = _read_object(body, "", FIELDS)
    _require(given, "", "model", "messages")
    parameters = {name: given[name] for name in _LLM_PARAMETERS if given.get(name) is not None}
    if len(parameters.keys() & {"max_tokens", "max_completion_tokens"}) > 1:
        raise Invalid("Send max_completion_tokens or max_tokens, not both.", param="max_tokens")
    return ChatRequest(
        model=given["model"],
        messages=given["messages"],
        stream=given.get("stream", False),
        include_usage=given.get("stream_options", {}).get("include_usage", False),
        llm_parameters=parameters,
        response_format=given.get("response_format"),
        metadata=given.get("metadata", {}),
        user=given.get("user"),
    )


def parse_clarification(body: Any) -> tuple[tuple[Message, ...], bool]:
    """Read the body of `provide_clarification`: the user's messages, and whether to stream."""
    given = _read_object(body, "", CLARIFICATION_FIELDS)
    _require(given, "", "messages")
    for index, message in enumerate(given["messages"]):
        if message.role is not Role.USER:
            raise Invalid("A clarification has messages of the role user only.", param=f"messages[{index}].role")
    return given["messages"], given.get("stream", True)


# --- readers of single values


def _wrong(path: str, rule: str) -> NoReturn:
    raise Invalid(f"{path or 'The request body'} {rule}.", param=path or None)


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        _wrong(path, "must be a boolean")
    return value


def _number(low: float, high: float) -> Reader:
    def read(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            _wrong(path, f"must be a number between {low} and {high}")
        return value

    return read


def _integer(low: int, high: int) -> Reader:
    def read(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            _wrong(path, f"must be an integer between {low} and {high}")
        return value

    return read


def _text(low: int = 0, high: int | None = None) -> Reader:
    def read(value: Any, path: str) -> str:
        if not isinstance(value, str):
            _wrong(path, "must be a string")
        if len(value) < low:
            _wrong(path, "must not be empty")
        if high is not None and len(value) > high:
            _wrong(path, f"must have at most {high} characters")
        if "\0" in value or not _is_encodable(value):
            _wrong(path, "must not contain NUL characters or lone surrogates")  # no store keeps them
        return value

    return read


def _one_of(*choices: str) -> Reader:
    def read(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in choices:
            _wrong(path, f"must be one of {', '.join(choices)}")
        return value

    return read


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        _wrong(path, "must be a list")
    return value


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _wrong(path, "must be an object")
    return value


def _anything(value: Any, path: str) -> Any:
    return value


def _refused(*neutral: Any) -> Reader:
    """A field that is not supported: only what changes nothing may be sent, and it is not kept."""

    def read(value: Any, path: str) -> None:
        if not any(type(value) is type(nothing) and value == nothing for nothing in neutral):
            raise UnsupportedParameter(f"{path} is not supported.", param=path)

    return read


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- readers of objects


def _read_object(value: Any, path: str, rules: Mapping[str, Reader]) -> dict[str, Any]:
    """Read an object by its table; what is null, or kept by no rule, is left out."""
    kept = {}
    for name, item in _object(value, path).items():
        if item is None:
            continue
        place = _join(path, name)
        read = rules.get(name) or _family(name, rules)
        if read is None:
            raise UnknownParameter(f"{place} is not known.", param=place)
        result = read(item, place)
        if result is not None:
            kept[name] = result
    return kept


def _family(name: str, rules: Mapping[str, Reader]) -> Reader | None:
    """The rule of a row that ends in `*`."""
    return next((read for row, read in rules.items() if row.endswith("*") and name.startswith(row[:-1])), None)


def _join(path: str, name: Any) -> str:
    """The path of a field; its name comes from the client, so it is cut and made printable."""
    shown = str(name)[:_SHOWN_LENGTH].encode("utf-8", "replace").decode()
    shown = "".join(character if character.isprintable() else "?" for character in shown)
    return f"{path}.{shown}" if path else shown


def _require(given: Mapping[str, Any], path: str, *names: str) -> None:
    for name in names:
        if name not in given:
            place = _join(path, name)
            raise Invalid(f"{place} is required.", param=place)


def _stop(value: Any, path: str) -> str | list[str] | None:
    if isinstance(value, str):
        return _text(1, _MAX_STOP)(value, path)
    if not isinstance(value, list) or len(value) > 4:
        _wrong(path, "must be a string or a list of at most 4 strings")
    return [_text(1, _MAX_STOP)(item, f"{path}[{index}]") for index, item in enumerate(value)] or None


def _logit_bias(value: Any, path: str) -> dict[str, float]:
    bias = _object(value, path)
    if len(bias) > MAX_BIASES:
        _wrong(path, f"must have at most {MAX_BIASES} tokens")
    for token, weight in bias.items():
        if not (token.isascii() and token.isdecimal()):
            _wrong(path, "must have token ids as keys")
        _number(-100, 100)(weight, _join(path, token))
    return bias


def _metadata(value: Any, path: str) -> dict[str, str]:
    pairs = _object(value, path)
    if len(pairs) > 16:
        _wrong(path, "must have at most 16 pairs")
    for key, text in pairs.items():
        place = _join(path, key)
        if not isinstance(text, str):
            _wrong(place, "must be a string")
        _text(1, 64)(key, place)
        _text(1 if key == "session_id" else 0, 512)(text, place)
    return pairs


def _stream_options(value: Any, path: str) -> dict[str, Any]:
    return _read_object(value, path, {"include_usage": _boolean, "include_obfuscation": _boolean})


def _response_format(value: Any, path: str) -> None:
    kind = _object(value, path).get("type")
    if kind in ("json_schema", "json_object"):
        raise UnsupportedParameter(f"{path} of the type {kind} is not supported.", param=path)
    if kind != "text":
        _wrong(f"{path}.type", "must be text")


# --- messages


def _messages(value: Any, path: str) -> tuple[Message, ...]:
    entries = _list(value, path)
    if not entries:
        _wrong(path, "must have at least one message")
    if len(entries) > MAX_MESSAGES:
        _wrong(path, f"must have at most {MAX_MESSAGES} messages")
    messages = tuple(_message(entry, f"{path}[{index}]") for index, entry in enumerate(entries))
    _check_last(messages[-1], f"{path}[{len(messages) - 1}].role")
    return messages


def _check_last(message: Message, path: str) -> None:
    if message.role is Role.TOOL:
        raise UnsupportedParameter("Results of client tools are not supported.", param=path)
    if message.role is not Role.USER:
        _wrong(path, "must be user in the last message")


def _message(value: Any, path: str) -> Message:
    role = _one_of(*MESSAGE_FIELDS)(_object(value, path).get("role"), f"{path}.role")
    given = _read_object(value, path, MESSAGE_FIELDS[role])
    if role == Role.TOOL:
        _require(given, path, "tool_call_id")
    if "tool_calls" not in given:
        _require(given, path, "content")
    if role == Role.USER and _is_blank(given["content"]):
        _wrong(f"{path}.content", "must not be empty")
    return Message(
        role=Role(role),
        content=given.get("content"),
        tool_calls=given.get("tool_calls", ()),
        tool_call_id=given.get("tool_call_id"),
        name=given.get("name"),
    )


def _content(value: Any, path: str) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        return _text()(value, path)
    if not isinstance(value, list):
        _wrong(path, "must be a string or a list of content parts")
    if not value:
        _wrong(path, "must not be empty")
    if len(value) > MAX_PARTS:
        _wrong(path, f"must have at most {MAX_PARTS} parts")
    return [_part(part, f"{path}[{index}]") for index, part in enumerate(value)]


def _part(value: Any, path: str) -> dict[str, Any]:
    kind = _text()(_object(value, path).get("type"), f"{path}.type")
    if kind in ("image_url", "input_audio", "file", "refusal"):
        raise UnsupportedParameter(f"Content parts of the type {kind} are not supported.", param=path)
    if kind != "text":
        _wrong(f"{path}.type", "must be text")
    given = _read_object(value, path, {"type": _anything, "text": _text(), "prompt_cache_*": _anything})
    _require(given, path, "text")
    return {"type": "text", "text": given["text"]}


def _is_blank(content: str | list[dict[str, Any]]) -> bool:
    texts = [content] if isinstance(content, str) else [part["text"] for part in content]
    return all(not text or text.isspace() for text in texts)


def _tool_calls(value: Any, path: str) -> tuple[ToolCallRef, ...] | None:
    items = _list(value, path)
    if len(items) > MAX_CALLS:
        _wrong(path, f"must have at most {MAX_CALLS} calls")
    calls = tuple(_tool_call(item, f"{path}[{index}]") for index, item in enumerate(items))
    return calls or None


def _tool_call(value: Any, path: str) -> ToolCallRef:
    kind = _object(value, path).get("type")
    if kind == "custom":
        raise UnsupportedParameter("Custom tool calls are not supported.", param=f"{path}.type")
    if kind != "function":
        _wrong(f"{path}.type", "must be function")
    given = _read_object(value, path, _TOOL_CALL_FIELDS)
    _require(given, path, "id", "function")
    _require(given["function"], f"{path}.function", "name", "arguments")
    function = FunctionCall(name=given["function"]["name"], arguments=given["function"]["arguments"])
    return ToolCallRef(id=given["id"], function=function)


def _function(value: Any, path: str) -> dict[str, Any]:
    return _read_object(value, path, _FUNCTION_FIELDS)


# What clients add to a call while they put it together from a stream is accepted without effect.
_FUNCTION_FIELDS: Mapping[str, Reader] = {
    "name": _text(1),
    "arguments": _text(),
    "parsed_arguments": _anything,
}
_TOOL_CALL_FIELDS: Mapping[str, Reader] = {
    "id": _text(1),
    "type": _anything,
    "function": _function,
    "index": _anything,
}
_EVERY_MESSAGE: Mapping[str, Reader] = {"role": _anything, "content": _content, "name": _text(1, _NAME_LENGTH)}

MESSAGE_FIELDS: Mapping[str, Mapping[str, Reader]] = {
    "system": _EVERY_MESSAGE,
    "developer": _EVERY_MESSAGE,
    "user": _EVERY_MESSAGE,
    "tool": {**_EVERY_MESSAGE, "tool_call_id": _text(1)},
    "assistant": {
        **_EVERY_MESSAGE,
        "tool_calls": _tool_calls,
        # a client that sends an answer back as it got it
        "annotations": _anything,
        "parsed": _anything,
        "reasoning_content": _anything,
        # refused, with the values that change nothing
        "audio": _refused(),
        "function_call": _refused(),
        "refusal": _refused(""),
    },
}

_LLM_PARAMETERS: Mapping[str, Reader] = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "logit_bias": _logit_bias,
    "max_tokens": _integer(1, _INT32),
    "max_completion_tokens": _integer(1, _INT32),
    "stop": _stop,
    "seed": _integer(-_INT64 - 1, _INT64),
    "reasoning_effort": _one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": _one_of("low", "medium", "high"),
}

FIELDS: Mapping[str, Reader] = {
    # honoured
    "model": lambda value, path: parse_model(value),
    "messages": _messages,
    "stream": _boolean,
    "stream_options": _stream_options,
    **_LLM_PARAMETERS,
    "response_format": _response_format,
    "metadata": _metadata,
    "user": _text(0, _USER_LENGTH),
    # accepted without effect
    "store": _boolean,
    "service_tier": _text(),
    "safety_identifier": _text(),
    "prompt_cache_*": _anything,
    # until client tools are there
    "tools": _refused([]),
    "tool_choice": _refused("auto", "none"),
    "parallel_tool_calls": _boolean,
    # refused, with the values that change nothing
    "n": _refused(1),
    "logprobs": _refused(False),
    "top_logprobs": _refused(0),
    "modalities": _refused(["text"]),
    "audio": _refused(),
    "prediction": _refused(),
    "functions": _refused([]),
    "function_call": _refused("auto", "none"),
    "moderation": _refused(),
    "web_search_options": _refused(),
}

CLARIFICATION_FIELDS: Mapping[str, Reader] = {"messages": _messages, "stream": _boolean}


def _why_not_json(body: bytes, exc: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError as broken:
        return f"The request body is not UTF-8: byte {broken.start} cannot be decoded."
    if "depth limit" in exc.msg:
        return "The request body is nested too deeply."
    if exc.doc.startswith(("NaN", "Infinity", "-Infinity"), exc.pos):
        return f"The request body is not valid JSON: NaN and Infinity are not numbers there (character {exc.pos})."
    return f"The request body is not valid JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})."
