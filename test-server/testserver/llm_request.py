"""What an LLM was asked, read tolerantly: a stack under test may send anything."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

KEPT_HEADERS = ("baggage", "traceparent", "tracestate", "user-agent", "x-request-id", "idempotency-key")


@dataclass(frozen=True)
class LLMRequest:
    """One request to the scripted LLM."""

    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    received_at: float = field(default_factory=time.monotonic)

    @property
    def baggage(self) -> dict[str, str]:
        """The entries of the W3C baggage header."""
        return parse_baggage(self.headers.get("baggage", ""))

    @property
    def case_id(self) -> str | None:
        """The execution of a case that this request belongs to."""
        return self.baggage.get("maruntime.case")

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model") or "")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation."""
        return _objects(self.body.get("messages"))

    @property
    def last_user(self) -> str:
        """The text of the last user message."""
        texts = [text_of(message) for message in self.messages if message.get("role") == "user"]
        return texts[-1] if texts else ""

    @property
    def all_text(self) -> str:
        """Every message text and the arguments of every tool call, in order."""
        return "\n".join(filter(None, map(_text_and_calls, self.messages)))

    @property
    def tools(self) -> dict[str, Mapping[str, Any]]:
        """The functions on offer, by name."""
        functions = [_object(tool.get("function")) for tool in _objects(self.body.get("tools"))]
        return {str(function["name"]): function for function in functions if function.get("name")}

    @property
    def tool_choice(self) -> str | None:
        """How tools may be chosen: a word, or the name of the forced tool."""
        choice = self.body.get("tool_choice")
        return choice if isinstance(choice, str) else _object(_object(choice).get("function")).get("name")

    @property
    def response_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema that the answer must satisfy, if one was given."""
        return _object(_object(self.body.get("response_format")).get("json_schema")).get("schema")

    @property
    def response_format(self) -> str | None:
        """The name of the answer's schema, or the bare type of the format."""
        wanted = _object(self.body.get("response_format"))
        return _object(wanted.get("json_schema")).get("name") or wanted.get("type")

    @property
    def streams(self) -> bool:
        """Tell whether chunks are wanted."""
        return self.body.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Tell whether a stream ends with its usage."""
        return _object(self.body.get("stream_options")).get("include_usage") is True

    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls that the conversation already holds, each `{id, name, arguments}`."""
        return [call for message in self.messages for call in calls_of(message)]

    def tool_results(self, name: str) -> list[str]:
        """What the calls of that tool came back with."""
        ids = {call["id"] for call in self.tool_calls() if call["name"] == name}
        return [
            text_of(message)
            for message in self.messages
            if message.get("role") == "tool" and message.get("tool_call_id") in ids
        ]

    def since_last_user(self) -> "LLMRequest":
        """The same request with only what follows the last user message."""
        roles = [message.get("role") for message in self.messages]
        start = len(roles) - roles[::-1].index("user") if "user" in roles else 0
        return LLMRequest({**self.body, "messages": self.messages[start:]}, self.headers, self.received_at)


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in _objects(content))


def calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tool calls of a message, each `{id, name, arguments}`."""
    calls = []
    for call in _objects(message.get("tool_calls")):
        function = _object(call.get("function"))
        calls.append({"id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")})
    return calls


def parse_baggage(header: str) -> dict[str, str]:
    """Read a W3C baggage header; properties after `;` are dropped."""
    pairs = [re.split(r"\s*=\s*", entry.split(";")[0].strip(), maxsplit=1) for entry in header.split(",")]
    return {pair[0]: unquote(pair[1]) for pair in pairs if len(pair) == 2}


def _text_and_calls(message: Mapping[str, Any]) -> str:
    return "\n".join([text_of(message), *(str(call["arguments"]) for call in calls_of(message))])


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
