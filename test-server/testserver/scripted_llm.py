"""The LLM that the stack under test talks to: it says what the case says.

A request belongs to the execution that its `baggage` names. The turn that
answers is the first one with uses left whose `when` agrees; a turn without
`when` agrees with everything. Everything asked is kept for the assertions,
and whatever the script did not foresee is a fault of the case, told to it and
to the caller. A request without a case gets the demo.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson
from jsonschema import Draft202012Validator

from testserver import demo
from testserver.case import LLMTurn, Matcher, Reply
from testserver.llm_request import LLMRequest
from testserver.llm_wire import CalledTool, LLMRefusal, LLMReply
from testserver.variables import Scope, VariableUnknown

NO_RETRY = {"x-should-retry": "false"}


@dataclass
class Script:
    """The turns of one execution and everything that was asked of them."""

    turns: list[LLMTurn]
    scope: Scope
    requests: list[LLMRequest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _used: dict[int, int] = field(default_factory=dict)

    def answer(self, request: LLMRequest) -> LLMReply:
        """Take the turn that fits.

        Raises:
            LLMRefusal: the script says so, or foresees no such request.
        """
        self.requests.append(request)
        try:
            index = self._take(request)
            return _spoken(self.turns[index], request, self.scope)
        except (VariableUnknown, _ScriptUnfit) as exc:
            number = len(self.requests) - 1
            self.faults.append(f"request {number}: {exc}")
            raise LLMRefusal.saying(500, f"scripted LLM: {exc}", "script_fault", NO_RETRY) from exc

    def unused(self) -> list[str]:
        """The turns that should have been asked for and were not."""
        return [
            f"turn {index} was used {self._used.get(index, 0)} of {turn.times} times"
            for index, turn in enumerate(self.turns)
            if not turn.optional and self._used.get(index, 0) < turn.times
        ]

    def _take(self, request: LLMRequest) -> int:
        for index, turn in enumerate(self.turns):
            if self._used.get(index, 0) < turn.times and matches(turn.when, request, self.scope):
                self._used[index] = self._used.get(index, 0) + 1
                return index
        raise _ScriptUnfit(
            f"no turn is left for it; it was asked {request.last_user[:200]!r}, offered {[*request.tools]}"
        )


class ScriptedLLM:
    """Every script that plays now, by the execution it belongs to."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    @contextmanager
    def playing(self, case_id: str, script: Script) -> Iterator[Script]:
        """Answer the requests of this execution from the script."""
        self._scripts[case_id] = script
        try:
            yield script
        finally:
            del self._scripts[case_id]

    def answer(self, request: LLMRequest) -> LLMReply:
        """Answer from the script of the request's case, or from the demo.

        Raises:
            LLMRefusal: the request is malformed, or its case has no answer.
        """
        script = self._script_of(request)
        if not request.model or not request.messages:
            if script is not None:
                script.faults.append("a request without model or messages")
            raise LLMRefusal.saying(400, "model and messages are required", "invalid_request")
        return demo.answer(request) if script is None else script.answer(request)

    def _script_of(self, request: LLMRequest) -> Script | None:
        case_id = request.case_id
        if case_id is None:
            return None
        if case_id not in self._scripts:
            raise LLMRefusal.saying(500, f"scripted LLM: no case {case_id!r} is being run", "case_unknown", NO_RETRY)
        return self._scripts[case_id]


class _ScriptUnfit(Exception):
    """The script cannot answer this request."""


def matches(when: Matcher | None, request: LLMRequest, scope: Scope) -> bool:
    """Tell whether a turn is meant for this request."""
    if when is None:
        return True
    wanted = Matcher.model_validate(scope.value(when.given, typed=False))
    verdicts = {
        "last_user_contains": lambda: (wanted.last_user_contains or "") in request.last_user,
        "last_user_matches": lambda: re.search(wanted.last_user_matches or "", request.last_user) is not None,
        "asked_contains": lambda: all(text in request.all_text for text in wanted.asked_contains or []),
        "offers_tool": lambda: wanted.offers_tool in request.tools,
        "offers_only": lambda: set(wanted.offers_only or []) == request.tools.keys(),
        "model": lambda: wanted.model == request.model,
        "template": lambda: wanted.template == request.baggage.get("maruntime.template"),
        "messages": lambda: wanted.messages == len(request.messages),
        "last_role": lambda: wanted.last_role == request.messages[-1].get("role"),
    }
    return all(verdicts[name]() for name in wanted.given)


def _spoken(turn: LLMTurn, request: LLMRequest, scope: Scope) -> LLMReply:
    usage = turn.usage
    return LLMReply(
        content=_content(turn.reply, request, scope),
        tool_calls=_calls(turn.reply, scope),
        finish_reason=turn.finish_reason,
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        chunk=turn.stream.chunk,
        delay_s=turn.stream.delay_ms / 1000,
    )


def _content(reply: Reply, request: LLMRequest, scope: Scope) -> str | None:
    if reply.error is not None:
        status = reply.error.status
        default = LLMRefusal.saying(status, "scripted failure", "scripted_error").body
        body = default if reply.error.body is None else scope.value(reply.error.body)
        raise LLMRefusal(status, body, reply.error.headers)
    if reply.json_value is None:
        return None if reply.content is None else scope.text(reply.content)
    value = scope.value(reply.json_value)
    if request.response_schema is not None:
        for error in Draft202012Validator(request.response_schema).iter_errors(value):
            raise _ScriptUnfit(f"its json does not satisfy the schema that was asked for: {error.message}")
    return orjson.dumps(value).decode()


def _calls(reply: Reply, scope: Scope) -> tuple[CalledTool, ...]:
    return tuple(
        CalledTool(
            scope.text(call.name), _arguments(scope.value(call.arguments, typed=not isinstance(call.arguments, str)))
        )
        for call in reply.tool_calls or []
    )


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
