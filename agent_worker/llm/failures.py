"""Tell what a provider's refusal means, by status, code and words.

Used for an HTTP status and for an error object inside a stream alike. The
provider's text is passed on, cut to a bound and without our key.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from agent_worker.llm.errors import LLMError, LLMRateLimited, LLMRefused, LLMUnavailable

MAX_TEXT = 1000
RETRIABLE_STATUS = frozenset({408, 409})
OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
REFUSALS = (
    "invalid",
    "authentication",
    "permission",
    "not_found",
    "context_length",
    "content_filter",
    "content_policy",
    "unsupported",
)


def failure_from(
    error: object, *, status: int | None = None, key: str = "", retry_after: float | None = None
) -> LLMError:
    """The error of ours that a provider's error object stands for.

    `error` is whatever JSON (or text) came: an OpenAI error object, the object
    that wraps one, or something else entirely.
    """
    fields = _error_fields(error)
    code, kind = _word(fields.get("code")), _word(fields.get("type"))
    if status is None:
        status = _status(fields.get("code")) or _status(fields.get("status"))
    text = without_key(_text(fields, error), key)[:MAX_TEXT]
    failure = _class_of(status, code, kind)(text or None, retry_after=retry_after)
    if status is not None:
        failure.details["status"] = status
    if isinstance(param := fields.get("param"), str):
        failure.details["param"] = without_key(param, key)[:MAX_TEXT]
    return failure


def _class_of(status: int | None, code: str, kind: str) -> type[LLMError]:
    if code in OUT_OF_MONEY or kind in OUT_OF_MONEY:
        return LLMRefused
    if status == 429 or "rate_limit" in code or "rate_limit" in kind:
        return LLMRateLimited
    if status is not None:
        return LLMUnavailable if status >= 500 or status in RETRIABLE_STATUS else LLMRefused
    if any(word in code or word in kind for word in REFUSALS):
        return LLMRefused
    return LLMUnavailable


def _error_fields(error: object) -> Mapping[str, Any]:
    if not isinstance(error, Mapping):
        return {}
    inner = error.get("error")
    return inner if isinstance(inner, Mapping) else error


def _text(fields: Mapping[str, Any], error: object) -> str:
    for candidate in (fields.get("message"), fields.get("error"), fields.get("detail"), error):
        if isinstance(candidate, str) and candidate.strip():
            return candidate.strip()
    return orjson.dumps(error).decode() if error else ""


def _word(value: object) -> str:
    return value.lower() if isinstance(value, str) else ""


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    return value if isinstance(value, int) and 400 <= value <= 599 else None


def without_key(text: str, key: str) -> str:
    """`text` with every appearance of our key blotted out."""
    return text.replace(key, "***") if key else text


def seconds_to_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds that `Retry-After` asks for, given as a number or as a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, now)
    return seconds if seconds is not None and 0 <= seconds < float("inf") else None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000" means UTC of unknown origin
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
