"""What the shape of a case cannot say: expectations that nothing could meet.

A problem names the place as a path into the document, so that the loader can
point at the line.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from testserver.case import (
    Case,
    Chat,
    Completion,
    Expect,
    Http,
    HttpExpect,
    LLMAssertion,
    Path,
    Request,
    Shape,
    Step,
    walk,
)
from testserver.matching import OPERATORS, operators_in
from testserver.variables import names_in

BUILT_IN_VARIABLES = frozenset({"unique", "case_id"})


class Problem(NamedTuple):
    """Something that makes a case worthless, and where it stands."""

    path: Path
    message: str


def problems_of(case: Case) -> Iterator[Problem]:
    """Everything that is wrong with a case of the right shape."""
    yield from _nothing_done(case)
    yield from _nothing_asserted(case)
    yield from _names_twice(case)
    for path, step in walk(case.act, ("act",)):
        yield from _step(step, path)
    for index, assertion in enumerate(case.asserts):
        path = ("assert", index, assertion.kind)
        yield from _empty(assertion.chosen, path)
        if assertion.llm is not None:
            yield from _llm(case, assertion.llm, path)
        if assertion.history is not None and assertion.history.given.keys() == {"session"}:
            yield Problem(path, "asserts nothing about the history")
        if assertion.values is not None and assertion.values.given.keys() == {"of"}:
            yield Problem(path, "asserts nothing about the values")
        if assertion.http is not None:
            yield from _http_assertion(assertion.http, path)
    for index, turn in enumerate(case.arrange.llm):
        if turn.when is not None:
            yield from _empty(turn.when, ("arrange", "llm", index, "when"))
    yield from _Variables(case).problems()


def _nothing_done(case: Case) -> Iterator[Problem]:
    if not any(isinstance(step.chosen, Request) for _, step in walk(case.act, ("act",))):
        yield Problem(("act",), "nothing is asked of the stack: a case needs a chat, clarify or http step")


def _nothing_asserted(case: Case) -> Iterator[Problem]:
    expects = any(getattr(step.chosen, "expect", None) is not None for _, step in walk(case.act, ("act",)))
    if not expects and not case.asserts:
        yield Problem((), "a case that asserts nothing proves nothing: add an expect or an assert")


def _names_twice(case: Case) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, step in walk(case.act, ("act",)):
        name = step.chosen.name
        if name in seen:
            yield Problem((*path, step.kind, "name"), f"another step is named {name!r} already")
        if name is not None:
            seen.add(name)


def _empty(shape: Shape, path: Path) -> Iterator[Problem]:
    if not shape.given:
        yield Problem(path, "is empty, so it says nothing")


def _step(step: Step, path: Path) -> Iterator[Problem]:
    path = (*path, step.kind)
    request = step.chosen
    if not isinstance(request, Request):
        return
    for name in request.save.keys() & request.collect.keys():
        yield Problem((*path, "collect", name), f"{name!r} is saved and collected by one step")
    if isinstance(request, Chat):
        yield from _chat(request, path)
    expect: Expect | None = getattr(request, "expect", None)
    if expect is None:
        return
    path = (*path, "expect")
    yield from _empty(expect, path)
    yield from _expect(expect, path)
    if isinstance(request, Completion):
        yield from _completion(request, path)


def _chat(chat: Chat, path: Path) -> Iterator[Problem]:
    if chat.via == "stream" and not chat.stream:
        yield Problem((*path, "via"), "the helper .stream() always streams: add stream: true")
    if chat.include_usage and not chat.stream:
        yield Problem((*path, "include_usage"), "only a stream has include_usage: a whole answer always has its usage")
    for name in chat.params.keys() & {"model", "messages", "stream", "stream_options"}:
        yield Problem((*path, "params", name), f"{name} has a key of its own, not under params")


def _expect(expect: Expect, path: Path) -> Iterator[Problem]:
    names_an_error = expect.error_code is not None or expect.error_param is not None
    if isinstance(expect, HttpExpect) and names_an_error and expect.status is not None and expect.status < 400:
        yield Problem((*path, "status"), f"an answer of status {expect.status} has no error to expect")
    for pointer, wanted in (expect.json_values or {}).items():
        yield from _operators(wanted, (*path, "json", pointer))
    if isinstance(expect, HttpExpect) and expect.json_schema is not None:
        yield from _json_schema(expect.json_schema, (*path, "json_schema"))


def _completion(request: Completion, path: Path) -> Iterator[Problem]:
    expect = request.expect
    assert expect is not None
    if expect.expects_failure:
        for field in ("text", "text_matches", "finish_reason", "waiting_for", "usage_present", "model_is_session"):
            if field in expect.given and expect.status != 200:
                yield Problem((*path, field), f"a refused request never has {field}")
        if not request.stream and expect.status == 200:
            yield Problem((*path, "status"), "a whole answer with an error never has status 200")
    if expect.deltas_at_least is not None and not request.stream:
        yield Problem((*path, "deltas_at_least"), "a whole answer has no deltas: add stream: true")
    if expect.deltas_at_least is not None and expect.expects_failure and expect.status != 200:
        yield Problem((*path, "deltas_at_least"), "a refused request never has deltas_at_least")
    if expect.usage_present and request.stream and not getattr(request, "include_usage", False):
        yield Problem((*path, "usage_present"), "a stream has usage only when asked: add include_usage: true")
    if expect.content_once and expect.text is None and expect.text_contains is None:
        yield Problem((*path, "content_once"), "content_once counts the text, so it needs text or text_contains")


def _json_schema(schema: dict[str, Any], path: Path) -> Iterator[Problem]:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        yield Problem(path, f"not a JSON Schema: {exc.message}")


def _operators(wanted: Any, path: Path) -> Iterator[Problem]:
    for operator, value in operators_in(wanted):
        reason = OPERATORS[operator].refuses(value) if operator in OPERATORS else f"unknown operator {operator!r}"
        if reason:
            yield Problem(path, reason)
    if isinstance(wanted, dict) and len(wanted) > 1 and any(str(key).startswith("$") for key in wanted):
        yield Problem(path, "an operator stands alone")


def _llm(case: Case, assertion: LLMAssertion, path: Path) -> Iterator[Problem]:
    about_one = assertion.given.keys() - {"requests", "at"}
    if about_one and assertion.at is None:
        yield Problem(path, f"say with `at` which request {', '.join(sorted(about_one))} is about")
    if assertion.at is not None and not about_one:
        yield Problem((*path, "at"), "asserts nothing about that request")
    most = sum(turn.times for turn in case.arrange.llm)
    least = sum(turn.times for turn in case.arrange.llm if not turn.optional)
    if assertion.requests is not None and not least <= assertion.requests <= most:
        wanted = str(most) if least == most else f"{least} to {most}"
        yield Problem((*path, "requests"), f"the script allows {wanted} requests, never {assertion.requests}")
    if assertion.at is not None and not -most <= assertion.at < most:
        yield Problem((*path, "at"), f"the script has no request {assertion.at}: it answers {most} at most")
    for pointer, wanted in (assertion.json_values or {}).items():
        yield from _operators(wanted, (*path, "json", pointer))


def _http_assertion(http: Http, path: Path) -> Iterator[Problem]:
    if http.expect is None:
        yield Problem(path, "asserts nothing: add an expect")
        return
    for field in http.given.keys() & {"save", "collect"}:
        yield Problem((*path, field), "nothing comes after an assertion that could use it")
    yield from _empty(http.expect, (*path, "expect"))
    yield from _expect(http.expect, (*path, "expect"))


class _Variables:
    """Follows a case from its first line to its last and knows what is set where."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._known = set(BUILT_IN_VARIABLES | case.arrange.variables.keys())

    def problems(self) -> Iterator[Problem]:
        yield from self._taken(self._case.arrange.variables.keys(), ("arrange", "variables"))
        yield from self._unset(self._case.arrange.variables, BUILT_IN_VARIABLES, ("arrange", "variables"))
        yield from self._steps(self._case.act, ("act",))
        for index, assertion in enumerate(self._case.asserts):
            yield from self._uses(assertion, ("assert", index))
            if assertion.values is not None and assertion.values.of not in self._known:
                yield Problem(("assert", index, "values", "of"), f"nothing collects {assertion.values.of!r}")
        for index, turn in enumerate(self._case.arrange.llm):
            yield from self._uses(turn, ("arrange", "llm", index))

    def _steps(self, steps: list[Step], path: Path) -> Iterator[Problem]:
        for index, step in enumerate(steps):
            here = (*path, index)
            if step.repeat is not None:
                yield from self._taken([step.repeat.counter], (*here, "repeat", "as"))
                self._known.add(step.repeat.counter)
                yield from self._steps(step.repeat.steps, (*here, "repeat", "steps"))
                continue
            yield from self._uses(step, here)
            if isinstance(step.chosen, Request):
                for field in ("save", "collect"):
                    names = getattr(step.chosen, field).keys()
                    yield from self._taken(names & BUILT_IN_VARIABLES, (*here, step.kind, field))
                    self._known |= names

    def _uses(self, shape: Shape, path: Path) -> Iterator[Problem]:
        document = shape.model_dump(by_alias=True, exclude_unset=True)
        yield from self._unset(document, self._known, path)

    def _unset(self, value: Any, known: set[str] | frozenset[str], path: Path) -> Iterator[Problem]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from self._unset(item, known, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._unset(item, known, (*path, index))
        else:
            for name in names_in(value):
                if name is None:
                    yield Problem(path, "`${` starts no variable: write ${name}, or $${ for the characters")
                elif name not in known:
                    yield Problem(path, f"nothing sets the variable {name!r} before it is used here")

    def _taken(self, names: Any, path: Path) -> Iterator[Problem]:
        for name in sorted(set(names) & BUILT_IN_VARIABLES):
            yield Problem(path, f"the variable {name!r} is built in")
