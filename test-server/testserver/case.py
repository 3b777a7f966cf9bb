"""A case as data: what is arranged, what is done, what must hold.

Only shapes live here. What a shape cannot say (an expectation that nothing
could ever meet, a variable that nobody sets) is judged by `checks`.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as exc:
        raise ValueError(f"not a regular expression: {exc}") from exc
    return pattern


def _text_or_object(value: Any) -> Any:
    if not isinstance(value, (str, dict)):
        raise ValueError("arguments are an object, or a string to be sent as it is")  # noqa: TRY004 (pydantic reports only this one)
    return value


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_as_list), Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
Regex = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
Pointer = Annotated[str, Field(pattern=r"^(/.*)?$")]
Source = Annotated[
    str,
    Field(pattern=r"^(/.*|header:[A-Za-z0-9-]+|session_id|run_id|text|model|status|finish_reason)$"),
]
HttpStatus = Annotated[int, Field(ge=100, le=599)]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Auth = Literal["api", "admin", "none"]


class Shape(BaseModel):
    """A part of a case: strict types, no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @property
    def given(self) -> dict[str, Any]:
        """What the author wrote, without the defaults."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class OneOf(Shape):
    """A part of a case that is exactly one of its keys."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "OneOf":
        if len(self.given) != 1 or self.chosen is None:
            keys = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            raise ValueError(f"exactly one of these keys is needed: {keys}")
        return self

    @property
    def kind(self) -> str:
        """The name of the key that was written."""
        return next(iter(self.given))

    @property
    def chosen(self) -> Any:
        """What was written under it."""
        return self.given[self.kind] if self.given else None


# Arrange: the script of the LLM


class Matcher(Shape):
    """Which request a turn answers; all that is written must agree."""

    last_user_contains: Text | None = None
    last_user_matches: Regex | None = None
    asked_contains: Texts | None = None
    offers_tool: Text | None = None
    offers_only: Texts | None = None
    model: Text | None = None
    template: Text | None = None
    messages: PositiveInt | None = None
    last_role: Literal["system", "developer", "user", "assistant", "tool"] | None = None


class ScriptedToolCall(Shape):
    """A tool call of the scripted LLM; a string is sent as the raw arguments."""

    name: Text
    arguments: Annotated[Any, BeforeValidator(_text_or_object)]


class ScriptedError(Shape):
    """A failing answer of the scripted LLM."""

    status: Annotated[int, Field(ge=400, le=599)]
    body: Any = None
    headers: dict[str, str] = {}


class Reply(OneOf):
    """What the scripted LLM says."""

    content: str | None = None
    tool_calls: Annotated[list[ScriptedToolCall], Field(min_length=1)] | None = None
    json_value: dict[str, Any] | None = Field(default=None, alias="json")
    error: ScriptedError | None = None


class Pace(Shape):
    """How a streamed reply is cut and how slowly it comes."""

    chunk: PositiveInt = 8
    delay_ms: NonNegativeInt = 0


class ScriptedUsage(Shape):
    """The tokens that the scripted LLM says it took."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt


class LLMTurn(Shape):
    """One answer of the scripted LLM, good for `times` requests."""

    when: Matcher | None = None
    reply: Reply
    stream: Pace = Pace()
    finish_reason: FinishReason | None = None
    usage: ScriptedUsage | None = None
    times: PositiveInt = 1
    optional: bool = False


class Arrange(Shape):
    """What is prepared before the first step."""

    variables: dict[Identifier, Any] = {}
    llm: list[LLMTurn] = []


# Act: what is expected of an answer


class Expect(Shape):
    """What must hold for any HTTP answer."""

    status: HttpStatus | None = None
    headers: dict[str, Text] | None = None
    text_contains: Texts | None = None
    text_lacks: Texts | None = None
    json_values: Annotated[dict[Pointer, Any], Field(min_length=1)] | None = Field(default=None, alias="json")
    error_code: Text | None = None
    error_param: Text | None = None
    within_ms: PositiveInt | None = None

    @property
    def expects_failure(self) -> bool:
        """Tell whether a refusal is what should come back."""
        refused = self.status is not None and self.status >= 400
        return refused or self.error_code is not None or self.error_param is not None


class HttpExpect(Expect):
    """What must hold for the answer of a plain route."""

    json_schema: dict[str, Any] | None = None


class AnswerExpect(Expect):
    """What must hold for a chat completion, streamed or whole."""

    text: str | None = None
    text_matches: Regex | None = None
    model_is_session: Literal[True] | None = None
    finish_reason: FinishReason | None = None
    waiting_for: Text | None = None
    usage_present: Literal[True] | None = None
    deltas_at_least: PositiveInt | None = None
    content_once: Literal[True] | None = None


# Act: the steps


class Named(Shape):
    """A step that may have a name of its own."""

    name: Text | None = None


class Request(Named):
    """A step that sends something and may keep parts of what comes back."""

    headers: dict[str, str] = {}
    auth: Auth = "api"
    timeout_s: PositiveFloat = 60.0
    save: dict[Identifier, Source] = {}
    collect: dict[Identifier, Source] = {}


class Completion(Request):
    """A request that is answered with a chat completion."""

    stream: bool = False
    expect: AnswerExpect | None = None


class Chat(Completion):
    """POST /v1/chat/completions through openai-python."""

    model: Text
    content: str | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    via: Literal["create", "stream"] = "create"
    include_usage: bool = False
    params: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "Chat":
        if (self.content is None) == (self.messages is None):
            raise ValueError("exactly one of these keys is needed: content, messages")
        return self


class Clarify(Completion):
    """POST /agents/{session}/provide_clarification."""

    session: Text
    content: str


class Http(Request):
    """A request to any other route."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: Annotated[str, Field(pattern="^/")]
    body: Any = Field(default=None, alias="json")
    expect: HttpExpect | None = None


class Fault(Named):
    """Something done to processes of the stack through its control socket."""

    processes: Texts
    timeout_s: PositiveFloat = 60.0


class WaitFor(Named):
    """Ask again and again until something is so, at most `within_s`."""

    session: Text | None = None
    run: Text | None = None
    instance: Text | None = None
    state: Text | None = None
    path: Annotated[str, Field(pattern="^/")] | None = None
    pointer: Pointer | None = None
    equals: Any = None
    auth: Auth | None = None
    within_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _one_target(self) -> "WaitFor":
        by_state = sum(target is not None for target in (self.session, self.run, self.instance))
        by_path = {"path", "pointer", "equals"} & self.model_fields_set
        if by_state == 1 and self.state is not None and not by_path:
            return self
        if by_state == 0 and self.state is None and len(by_path) == 3:
            return self
        raise ValueError("wait for the state of one session, run or instance, or for path, pointer and equals")


class Repeat(Named):
    """The same steps again, `as` counting from 1."""

    times: Annotated[int, Field(ge=2, le=10_000)]
    counter: Identifier = Field(default="i", alias="as")
    steps: Annotated[list["Step"], Field(min_length=1)]


FAULTS = ("restart", "kill", "pause", "resume", "stop", "start")


class Step(OneOf):
    """One thing done to the stack."""

    chat: Chat | None = None
    clarify: Clarify | None = None
    http: Http | None = None
    wait_for: WaitFor | None = None
    repeat: Repeat | None = None
    restart: Fault | None = None
    kill: Fault | None = None
    pause: Fault | None = None
    resume: Fault | None = None
    stop: Fault | None = None
    start: Fault | None = None


# Assert: what must hold when everything is done


class AskedToolCall(Shape):
    """A tool call that must stand in the conversation."""

    name: Text
    arguments: dict[str, Any] | None = None


class AskedToolResult(Shape):
    """The result of a tool that must stand in the conversation."""

    tool: Text
    contains: Texts | None = None
    lacks: Texts | None = None


class LLMAssertion(Shape):
    """What the scripted LLM was really asked; `at` is a request's number, from 0, or from the end below 0."""

    requests: NonNegativeInt | None = None
    at: int | None = None
    offered: Texts | None = None
    offered_exactly: Texts | None = None
    not_offered: Texts | None = None
    tool_choice: Text | None = None
    model: Text | None = None
    asked_contains: Texts | None = None
    asked_lacks: Texts | None = None
    last_user: Text | None = None
    tool_calls: Annotated[list[AskedToolCall], Field(min_length=1)] | None = None
    tool_results: Annotated[list[AskedToolResult], Field(min_length=1)] | None = None
    response_format: Text | None = None
    headers: dict[str, Regex] | None = None
    json_values: Annotated[dict[Pointer, Any], Field(min_length=1)] | None = Field(default=None, alias="json")


class HistoryAssertion(Shape):
    """What GET /sessions/{id}/history must tell."""

    session: Text
    roles: Texts | None = None
    contains: Texts | None = None
    lacks: Texts | None = None
    tool_calls: Texts | None = None
    messages: NonNegativeInt | None = None


class ValuesAssertion(Shape):
    """What must hold for a list of collected values."""

    of: Identifier
    count: NonNegativeInt | None = None
    distinct: PositiveInt | None = None
    equal: list[Any] | None = None


class Assertion(OneOf):
    """One thing that must hold at the end."""

    llm: LLMAssertion | None = None
    history: HistoryAssertion | None = None
    values: ValuesAssertion | None = None
    http: Http | None = None


class Case(Shape):
    """One scenario, with the requirements that it proves."""

    name: Identifier
    requirement: Annotated[list[Annotated[str, Field(pattern=r"^R\d{2}$")]], Field(min_length=1)]
    tags: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]] = []
    description: Text
    within_s: PositiveFloat = 60.0
    exclusive: bool = False
    arrange: Arrange = Arrange()
    act: Annotated[list[Step], Field(min_length=1)]
    asserts: list[Assertion] = Field(default=[], alias="assert")

    @property
    def is_exclusive(self) -> bool:
        """Tell whether no other case may run beside this one."""
        return self.exclusive or self.needs_control

    @property
    def needs_control(self) -> bool:
        """Tell whether a step reaches for the control socket."""
        return any(step.kind in FAULTS for _, step in walk(self.act, ("act",)))


Path = tuple[str | int, ...]


def walk(steps: list[Step], path: Path) -> Iterator[tuple[Path, Step]]:
    """Every step in the order of acting, those inside a loop after the loop itself."""
    for index, step in enumerate(steps):
        yield (*path, index), step
        if step.repeat is not None:
            yield from walk(step.repeat.steps, (*path, index, "repeat", "steps"))
