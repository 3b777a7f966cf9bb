"""Judge one answer of the stack: every expectation is a check that can fail."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator

from testserver.answer import SESSION_ID, Answer
from testserver.case import AnswerExpect, Expect
from testserver.matching import agrees_at
from testserver.variables import Scope
from testserver.verdict import Failure

Check = Callable[[Answer, Any], Iterator[Failure]]
_TYPED = frozenset({"json_values", "json_schema"})


def judge(answer: Answer, expect: Expect | None, scope: Scope) -> list[Failure]:
    """Everything about an answer that is not as expected.

    An answer of which no failure is expected must be a success, and a stream
    must keep to the wire, whatever else is expected.
    """
    failures = list(_unexpected_outcome(answer, expect))
    if failures and answer.failed:
        return failures  # nothing else of it can be right, and saying so would hide why
    failures += [Failure(where="stream", expected="an OpenAI stream", got=fault) for fault in answer.wire_faults]
    wanted = expect.given if expect is not None else {}
    if isinstance(expect, AnswerExpect) and wanted.get("content_once"):
        wanted["content_once"] = [expect.text] if expect.text is not None else expect.text_contains
    for name, value in wanted.items():
        failures += CHECKS[name](answer, scope.value(value, typed=name in _TYPED))
    return failures


def _unexpected_outcome(answer: Answer, expect: Expect | None) -> Iterator[Failure]:
    if expect is not None and expect.expects_failure:
        if not answer.failed:
            yield Failure(where="answer", expected="a refusal or an error", got=f"status {answer.status}, no error")
    elif answer.failed:
        got = {"status": answer.status, "error": answer.error}
        yield Failure(where="answer", expected="a success", got=got)


def _is(where: str, got: Callable[[Answer], Any]) -> Check:
    def check(answer: Answer, wanted: Any) -> Iterator[Failure]:
        if (found := got(answer)) != wanted:
            yield Failure(where=where, expected=wanted, got=found)

    return check


def _headers(answer: Answer, wanted: dict[str, str]) -> Iterator[Failure]:
    for name, text in wanted.items():
        found = answer.headers.get(name.lower())
        if found is None or text not in found:
            yield Failure(where=f"headers.{name}", expected=text, got=found)


def _contains(answer: Answer, wanted: list[str]) -> Iterator[Failure]:
    for text in wanted:
        if text not in answer.text:
            yield Failure(where="text_contains", expected=text, got=answer.text)


def _lacks(answer: Answer, unwanted: list[str]) -> Iterator[Failure]:
    for text in unwanted:
        if text in answer.text:
            yield Failure(where="text_lacks", expected=f"nowhere: {text}", got=answer.text)


def _matches(answer: Answer, pattern: str) -> Iterator[Failure]:
    if not re.search(pattern, answer.text):
        yield Failure(where="text_matches", expected=pattern, got=answer.text)


def _json(answer: Answer, wanted: dict[str, Any]) -> Iterator[Failure]:
    for pointer, value in wanted.items():
        holds, got = agrees_at(answer.body, pointer, value)
        if not holds:
            yield Failure(where=f"json {pointer}", expected=value, got=got)


def _json_schema(answer: Answer, schema: dict[str, Any]) -> Iterator[Failure]:
    for error in Draft202012Validator(schema).iter_errors(answer.body):
        yield Failure(where=f"json_schema {error.json_path}", expected=error.message, got=error.instance)


def _error(key: str) -> Check:
    def check(answer: Answer, wanted: str) -> Iterator[Failure]:
        if answer.error is None or answer.error.get(key) != wanted:
            yield Failure(where=f"error_{key}", expected=wanted, got=answer.error)

    return check


def _model_is_session(answer: Answer, _: Any) -> Iterator[Failure]:
    models = {chunk.get("model") for chunk in answer.chunks} if answer.chunks else {answer.model}
    if answer.session_id is None or not SESSION_ID.fullmatch(answer.session_id):
        yield Failure(where="header X-Session-Id", expected="a session id", got=answer.session_id)
    if models != {answer.session_id}:
        yield Failure(where="model_is_session", expected=answer.session_id, got=sorted(map(str, models)))


def _usage_present(answer: Answer, _: Any) -> Iterator[Failure]:
    usage = answer.get("/usage")
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if not isinstance(prompt, int) or not isinstance(completion, int) or prompt < 1 or completion < 1:
        yield Failure(where="usage_present", expected="tokens of prompt and completion", got=usage)
    elif counts.get("total_tokens") != prompt + completion:
        yield Failure(where="usage_present", expected=f"total_tokens = {prompt + completion}", got=usage)


def _deltas(answer: Answer, least: int) -> Iterator[Failure]:
    if answer.deltas < least:
        yield Failure(where="deltas_at_least", expected=least, got=answer.deltas)


def _once(answer: Answer, wanted: list[str]) -> Iterator[Failure]:
    for text in wanted:
        if (count := answer.text.count(text)) != 1:
            yield Failure(where="content_once", expected=f"once: {text}", got=f"{count} times in {answer.text!r}")


def _within(answer: Answer, most: int) -> Iterator[Failure]:
    if answer.duration_ms > most:
        yield Failure(where="within_ms", expected=most, got=answer.duration_ms)


CHECKS: dict[str, Check] = {
    "status": _is("status", lambda answer: answer.status),
    "headers": _headers,
    "text": _is("text", lambda answer: answer.text),
    "text_contains": _contains,
    "text_lacks": _lacks,
    "text_matches": _matches,
    "json_values": _json,
    "json_schema": _json_schema,
    "error_code": _error("code"),
    "error_param": _error("param"),
    "model_is_session": _model_is_session,
    "finish_reason": _is("finish_reason", lambda answer: answer.finish_reason),
    "waiting_for": _is("waiting_for", lambda answer: answer.get("/x_maruntime/waiting_for")),
    "usage_present": _usage_present,
    "deltas_at_least": _deltas,
    "content_once": _once,
    "within_ms": _within,
}
