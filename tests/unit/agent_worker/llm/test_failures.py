from datetime import UTC, datetime

import pytest

from agent_worker.llm.errors import LLMRateLimited, LLMRefused, LLMUnavailable
from agent_worker.llm.failures import MAX_TEXT, failure_from, seconds_to_wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, LLMRefused), (404, LLMRefused), (408, LLMUnavailable), (409, LLMUnavailable), (429, LLMRateLimited),
     (500, LLMUnavailable), (529, LLMUnavailable)],
)  # fmt: skip
def test_a_status_decides(status, kind):
    assert type(failure_from({"error": {"message": "m"}}, status=status)) is kind


def test_no_money_is_not_a_rate_limit():
    assert type(failure_from({"error": {"type": "insufficient_quota"}}, status=429)) is LLMRefused


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"message": "m"}, "m"),
        (" m ", "m"),
        ({"detail": [{"msg": "m"}]}, '{"detail":[{"msg":"m"}]}'),
        ("", "The model's endpoint refused the request."),
        (None, "The model's endpoint refused the request."),
    ],
)
def test_the_providers_own_words_are_kept(error, text):
    assert failure_from(error, status=400).message == text


def test_words_are_cut_and_the_key_is_blotted_out():
    failure = failure_from("secret-key " + "x" * 5000, status=400, key="secret-key")

    assert failure.message.startswith("*** xxx")
    assert len(failure.message) == MAX_TEXT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0), ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
     ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("nan", None), ("inf", None), ("", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert seconds_to_wait({"retry-after": value}, NOW) == seconds
    assert seconds_to_wait({}, NOW) is None
