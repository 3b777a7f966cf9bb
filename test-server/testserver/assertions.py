"""Judge what remains when a case is done: what the LLM was asked, the history, collected values."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from testserver.case import AskedToolCall, HistoryAssertion, LLMAssertion, ValuesAssertion
from testserver.llm_request import LLMRequest, calls_of, text_of
from testserver.matching import agrees_at
from testserver.pointer import equal
from testserver.variables import Scope
from testserver.verdict import Failure


def judge_llm(requests: list[LLMRequest], assertion: LLMAssertion, scope: Scope) -> list[Failure]:
    """What the scripted LLM was asked and should not have been, or the other way round."""
    wanted = _filled(assertion, scope)
    failures = []
    if wanted.requests is not None and len(requests) != wanted.requests:
        failures.append(Failure(where="llm.requests", expected=wanted.requests, got=len(requests)))
    if wanted.at is None:
        return failures
    if not -len(requests) <= wanted.at < len(requests):
        return [*failures, Failure(where="llm.at", expected=f"a request {wanted.at}", got=f"{len(requests)} requests")]
    request = requests[wanted.at]
    for name in wanted.given:
        if name not in ("requests", "at"):
            failures += _LLM_CHECKS[name](request, getattr(wanted, name), f"llm[{wanted.at}].{name}")
    return failures


def judge_history(document: Any, assertion: HistoryAssertion, scope: Scope) -> list[Failure]:
    """What the history of a session tells and should not, or the other way round."""
    wanted = HistoryAssertion.model_validate(scope.value(assertion.given, typed=False))
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return [Failure(where="history", expected="a list of messages", got=document)]
    request = LLMRequest({"messages": messages})
    failures = []
    roles = [message.get("role") for message in messages]
    if wanted.messages is not None and len(messages) != wanted.messages:
        failures.append(Failure(where="history.messages", expected=wanted.messages, got=len(messages)))
    if wanted.roles is not None and roles != wanted.roles:
        failures.append(Failure(where="history.roles", expected=wanted.roles, got=roles))
    called = [call["name"] for call in request.tool_calls()]
    if wanted.tool_calls is not None and not _in_order(wanted.tool_calls, called):
        failures.append(Failure(where="history.tool_calls", expected=wanted.tool_calls, got=called))
    failures += _texts(request.all_text, wanted.contains, wanted.lacks, "history")
    return failures


def judge_values(assertion: ValuesAssertion, scope: Scope) -> list[Failure]:
    """What collected values should have been and are not."""
    values = scope.value(f"${{{assertion.of}}}")
    where = f"values.{assertion.of}"
    if not isinstance(values, list):
        return [Failure(where=where, expected="a list made by collect", got=values)]
    failures = []
    if assertion.count is not None and len(values) != assertion.count:
        failures.append(Failure(where=f"{where}.count", expected=assertion.count, got=values))
    distinct = {orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values}
    if assertion.distinct is not None and len(distinct) != assertion.distinct:
        failures.append(Failure(where=f"{where}.distinct", expected=assertion.distinct, got=values))
    if assertion.equal is not None and not equal(values, wanted := scope.value(assertion.equal)):
        failures.append(Failure(where=f"{where}.equal", expected=wanted, got=values))
    return failures


def _filled(assertion: LLMAssertion, scope: Scope) -> LLMAssertion:
    typed = {"json": scope.value(assertion.json_values)} if assertion.json_values is not None else {}
    plain = assertion.model_dump(by_alias=True, exclude_unset=True, exclude={"json_values"})
    return LLMAssertion.model_validate({**scope.value(plain, typed=False), **typed})


def _offered(request: LLMRequest, wanted: list[str], where: str) -> Iterator[Failure]:
    if missing := [name for name in wanted if name not in request.tools]:
        yield Failure(where=where, expected=missing, got=[*request.tools])


def _offered_exactly(request: LLMRequest, wanted: list[str], where: str) -> Iterator[Failure]:
    if set(wanted) != request.tools.keys():
        yield Failure(where=where, expected=sorted(wanted), got=sorted(request.tools))


def _not_offered(request: LLMRequest, unwanted: list[str], where: str) -> Iterator[Failure]:
    if present := [name for name in unwanted if name in request.tools]:
        yield Failure(where=where, expected=f"without {present}", got=[*request.tools])


def _is(got: Callable[[LLMRequest], Any]) -> Callable[[LLMRequest, Any, str], Iterator[Failure]]:
    def check(request: LLMRequest, wanted: Any, where: str) -> Iterator[Failure]:
        if (found := got(request)) != wanted:
            yield Failure(where=where, expected=wanted, got=found)

    return check


def _asked_contains(request: LLMRequest, wanted: list[str], where: str) -> Iterator[Failure]:
    for text in wanted:
        if text not in request.all_text:
            yield Failure(where=where, expected=text, got=request.all_text)


def _asked_lacks(request: LLMRequest, unwanted: list[str], where: str) -> Iterator[Failure]:
    for text in unwanted:
        if text in request.all_text:
            yield Failure(where=where, expected=f"nowhere: {text}", got=request.all_text)


def _tool_calls(request: LLMRequest, wanted: list[AskedToolCall], where: str) -> Iterator[Failure]:
    calls = request.tool_calls()
    for call in wanted:
        if not any(_is_call(found, call) for found in calls):
            yield Failure(where=where, expected=call.model_dump(exclude_unset=True), got=calls)


def _is_call(found: dict[str, Any], wanted: AskedToolCall) -> bool:
    if found["name"] != wanted.name:
        return False
    try:
        arguments = orjson.loads(found["arguments"] or "{}")
    except (orjson.JSONDecodeError, TypeError):
        return wanted.arguments is None
    return all(agrees_at(arguments, f"/{_escaped(key)}", value)[0] for key, value in (wanted.arguments or {}).items())


def _tool_results(request: LLMRequest, wanted: list[Any], where: str) -> Iterator[Failure]:
    for result in wanted:
        found = request.tool_results(result.tool)
        if not found:
            yield Failure(where=where, expected=f"a result of {result.tool}", got=[_brief(m) for m in request.messages])
        yield from _texts("\n".join(found), result.contains, result.lacks, f"{where} {result.tool}")


def _request_headers(request: LLMRequest, wanted: dict[str, str], where: str) -> Iterator[Failure]:
    for name, pattern in wanted.items():
        found = request.headers.get(name.lower())
        if found is None or not re.search(pattern, found):
            yield Failure(where=f"{where} {name}", expected=pattern, got=found)


def _body(request: LLMRequest, wanted: dict[str, Any], where: str) -> Iterator[Failure]:
    for pointer, value in wanted.items():
        holds, got = agrees_at(request.body, pointer, value)
        if not holds:
            yield Failure(where=f"{where} {pointer}", expected=value, got=got)


_LLM_CHECKS: dict[str, Callable[[LLMRequest, Any, str], Iterator[Failure]]] = {
    "offered": _offered,
    "offered_exactly": _offered_exactly,
    "not_offered": _not_offered,
    "tool_choice": _is(lambda request: request.tool_choice),
    "model": _is(lambda request: request.model),
    "asked_contains": _asked_contains,
    "asked_lacks": _asked_lacks,
    "last_user": _is(lambda request: request.last_user),
    "tool_calls": _tool_calls,
    "tool_results": _tool_results,
    "response_format": _is(lambda request: request.response_format),
    "headers": _request_headers,
    "json_values": _body,
}


def _texts(text: str, wanted: list[str] | None, unwanted: list[str] | None, where: str) -> Iterator[Failure]:
    for part in wanted or []:
        if part not in text:
            yield Failure(where=f"{where}.contains", expected=part, got=text)
    for part in unwanted or []:
        if part in text:
            yield Failure(where=f"{where}.lacks", expected=f"nowhere: {part}", got=text)


def _in_order(wanted: list[str], found: list[str]) -> bool:
    rest = iter(found)
    return all(name in rest for name in wanted)


def _brief(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "role": message.get("role"),
        "text": text_of(message)[:200],
        "calls": [c["name"] for c in calls_of(message)],
    }


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
