"""What a remote tool is: one HTTP request, described as data.

Imports nothing of the worker, so that whoever saves a tool can check it with
the same code. Secrets are named, never written: `problems` finds values that
look like keys.
"""

import re
from datetime import timedelta
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_SECRET = re.compile(r"\$\{secret:[a-z][a-z0-9_]{0,63}\}")
_ANY_REFERENCE = re.compile(r"\$\{[^}]*\}?")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\uffff]")
_CREDENTIAL_NAME = re.compile(
    r"auth|cookie|passw|secret|credential|session|signature|api[-_]?key|access[-_]?key|(^|[-_])(token|key|pwd|sig)($|[-_])",
    re.IGNORECASE,
)
_SCHEME_WORD = re.compile(r"[A-Za-z][A-Za-z-]{0,19}")
_CREDENTIAL_VALUE = re.compile(
    r"\beyJ[\w-]{8,}\.|\b(sk|pk|rk|ghp|gho|ghs|glpat|xox[abps]|tvly|AKIA|AIza)[-_]?[A-Za-z0-9_-]{12,}"
    r"|\b(bearer|basic|token)\s+[A-Za-z0-9+/._=-]{8,}",
    re.IGNORECASE,
)
_RANDOM = re.compile(r"(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[A-Za-z0-9+/_=-]{24,}")
# The client and the platform set these; a tool that could would fool the one or the other.
_RESERVED = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy-authorization",
        "proxy-connection",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "baggage",
    }
)


class RemoteSpec(BaseModel):
    """A remote HTTP endpoint tool.

    `{name}` in the path or the query of `url` takes an argument; the
    arguments that the URL does not take go where `send_arguments` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: str = Field(max_length=4096)
    headers: dict[str, str] = Field(default={}, max_length=32)
    send_arguments: Literal["json", "query"] | None = None
    """Where the other arguments go; by default the query for GET and DELETE, a JSON body otherwise."""
    response: Literal["json", "text"] = "json"
    result_pointer: str | None = Field(default=None, max_length=500, pattern=r"^(/([^~]|~[01])*)?$")
    """A JSON pointer (RFC 6901) to the part of the answer that the model gets."""
    max_response_bytes: PositiveInt = Field(default=256 * 1024, le=4 * 1024 * 1024)
    timeout: timedelta = Field(default=timedelta(seconds=30), gt=timedelta(0), le=timedelta(seconds=600))
    idempotency_header: str = Field(default="Idempotency-Key", max_length=100)

    @property
    def placeholders(self) -> frozenset[str]:
        """The arguments that the URL takes."""
        return frozenset(_PLACE.findall(self.url))

    @property
    def sends_query(self) -> bool:
        """Whether the other arguments go into the query."""
        if self.send_arguments is not None:
            return self.send_arguments == "query"
        return self.method in ("GET", "DELETE")

    @field_validator("url")
    @classmethod
    def _is_a_template(cls, url: str) -> str:
        if _UNPRINTABLE.search(url) or " " in url or "\\" in url:
            raise ValueError("write the URL in printable ASCII; encode what is not")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL must begin with http:// or https:// and a host")
        if "@" in parts.netloc:
            raise ValueError("the URL must not hold credentials: name a secret in a header")
        if "{" in parts.netloc or "}" in parts.netloc:
            raise ValueError("the host must be written out: placeholders stand in the path or the query")
        if parts.fragment or url.endswith("#"):
            raise ValueError("the URL must not have a fragment")
        if re.search(r"[{}]", _PLACE.sub("", url)):
            raise ValueError("a placeholder is {name}; encode other braces")
        if any(segment in (".", "..") for segment in parts.path.split("/")):
            raise ValueError("the path must not have segments . or ..")
        _ = parts.port
        return url

    @field_validator("headers")
    @classmethod
    def _are_sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("a header is given twice")
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED:
                raise ValueError(f"the header {name[:100]!r} cannot be set")
            if _UNPRINTABLE.search(value) or len(value) > 2000:
                raise ValueError(f"the value of {name} must be up to 2000 characters of printable ASCII")
            if any(not _SECRET.fullmatch(reference) for reference in _ANY_REFERENCE.findall(value)):
                raise ValueError(f"the value of {name} names a secret in the form ${{secret:name}}")
        return headers

    @field_validator("idempotency_header")
    @classmethod
    def _is_a_header(cls, name: str) -> str:
        if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED | {"authorization", "cookie", "content-type"}:
            raise ValueError(f"the header {name!r} cannot be set")
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.result_pointer is not None and self.response != "json":
            raise ValueError("result_pointer needs response: json")
        if self.send_arguments == "json" and self.method == "GET":
            raise ValueError("GET has no body: use send_arguments: query")
        return self


def problems(spec: RemoteSpec, parameters: dict[str, object]) -> list[tuple[str, str]]:
    """What is wrong with a tool beside its form, as (JSON path, message); checked before it is saved.

    `parameters` is the JSON Schema of the tool's arguments.
    """
    found = literal_secrets(spec)
    properties = parameters.get("properties")
    known = set(properties) if isinstance(properties, dict) else set()
    required = parameters.get("required")
    always = set(required) if isinstance(required, list) else set()
    found += [
        ("$.url", f"the placeholder {{{name}}} is no required argument of the tool")
        for name in sorted(spec.placeholders)
        if name not in known or name not in always
    ]
    return found


def literal_secrets(spec: RemoteSpec) -> list[tuple[str, str]]:
    """Values that look like keys and have to be named instead, as (JSON path, message)."""
    found: list[tuple[str, str]] = []
    for name, value in spec.headers.items():
        around = _SECRET.sub("", value).strip()
        if _CREDENTIAL_NAME.search(name):
            is_named = around != value.strip() and (not around or _SCHEME_WORD.fullmatch(around) is not None)
        else:
            is_named = not _looks_like_a_key(around)
        if not is_named:
            found.append((f"$.headers.{name}", "looks like a key: name it as ${secret:name}"))
    parts = urlsplit(spec.url)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        text = _PLACE.sub("", value)
        if text and (_CREDENTIAL_NAME.search(name) or _looks_like_a_key(text)):
            found.append(("$.url", f"the value of {name!r} looks like a key: send it in a header, as ${{secret:name}}"))
    if any(_looks_like_a_key(_PLACE.sub("", segment)) for segment in parts.path.split("/")):
        found.append(("$.url", "a part of the path looks like a key: a URL is logged by every server on its way"))
    return found


def _looks_like_a_key(text: str) -> bool:
    return _CREDENTIAL_VALUE.search(text) is not None or _RANDOM.search(text) is not None
