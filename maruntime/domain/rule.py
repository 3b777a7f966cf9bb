"""What a rule of a template says: when it holds and what it then does to the tools of a step.

Rules are data (JSON), never code. The models refuse what is not well formed;
whether the names in a rule exist, and whether the rules together leave a run a
way to end, is what `maruntime.rules.lint` finds. What a rule means is
`maruntime.rules.evaluate`; docs/rules.md is the reference.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    model_validator,
)

from maruntime.domain.run import RunState

ALL_TOOLS = "*"
INITIAL_STAGE = "start"
"""The stage of a run that no rule has moved yet."""

COUNTERS = frozenset(
    {"iteration", "searches", "clarifications", "tool_calls", "invalid_answers", "llm_calls", "tokens"}
)
CALLS_PREFIX = "calls:"
"""`calls:<tool>` counts the calls of one tool."""

T = TypeVar("T")

_MAX_DEPTH = 8
_MAX_PARTS = 64
_MAX_NUMBER = 2**53 - 1
_DECIMALS = 3
_SNAKE = r"^[a-z][a-z0-9_]{0,63}$"


class Phase(StrEnum):
    """When a rule is looked at."""

    BEFORE_SEARCH = "before_search"
    AFTER_SEARCH = "after_search"
    TRANSITION = "transition"
    """When the run changes its state: it begins, resumes, waits or ends. Such a rule can only set the stage."""


class Resource(StrEnum):
    """What a budget limits."""

    TOKENS = "tokens"
    LLM_CALLS = "llm_calls"
    TOOL_CALLS = "tool_calls"
    WALL_TIME = "wall_time"


Order = Literal["lt", "le", "ge", "gt"]
"""A comparison of what is measured; equality with a clock would never hold."""
Comparison = Literal["lt", "le", "eq", "ne", "ge", "gt"]


def _few_decimals(number: float) -> float:
    if number != round(number, _DECIMALS):
        raise ValueError(f"at most {_DECIMALS} decimals")
    return number


def _filled(parts: tuple[T, ...]) -> tuple[T, ...]:
    # Not `min_length`: that one also complains when all there is is wrong.
    if not parts:
        raise ValueError("at least one")
    return parts


def _bound_kind(said: Any) -> str:
    return "limit" if isinstance(said, dict | LimitRef) else "number"


Snake = Annotated[str, Field(pattern=_SNAKE)]
ToolName = Snake
ToolPattern = Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_]{0,63})$")]
Whole = Annotated[StrictInt, Field(ge=0, le=_MAX_NUMBER)]
# Three decimals read as exact decimals: 0.8 of a budget of 10 is 8, whatever a float makes of it.
Measure = Annotated[float, Field(strict=True, ge=0, le=10**9, allow_inf_nan=False), AfterValidator(_few_decimals)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class LimitRef(_Part):
    """One of the template's execution limits, by name."""

    limit: Snake


Several = Annotated[
    tuple[T, ...], AfterValidator(_filled), Field(max_length=_MAX_PARTS, json_schema_extra={"minItems": 1})
]


# --- conditions


class Counter(_Part):
    """A counter of the run compares so with a number or a limit. A counter that nobody has moved is 0."""

    type: Literal["counter"] = "counter"
    counter: str = Field(pattern=r"^(calls:)?[a-z][a-z0-9_]{0,63}$")
    op: Comparison
    value: Annotated[Annotated[Whole, Tag("number")] | Annotated[LimitRef, Tag("limit")], Discriminator(_bound_kind)]


def _absent(value: object) -> bool:
    return value is None


def _expect_one(is_: object, in_: object) -> None:
    if (is_ is None) == (in_ is None):
        raise ValueError("exactly one of `is` and `in`")


class State(_Part):
    """The run is in this state (`is`), or in one of these (`in`)."""

    type: Literal["state"] = "state"
    is_: RunState | None = Field(default=None, alias="is", exclude_if=_absent)
    in_: Several[RunState] | None = Field(default=None, alias="in", exclude_if=_absent)

    @property
    def values(self) -> frozenset[str]:
        """The states that satisfy it."""
        return frozenset((self.is_,) if self.is_ is not None else self.in_ or ())

    @model_validator(mode="after")
    def _has_one_of_both(self) -> Self:
        _expect_one(self.is_, self.in_)
        return self


class Stage(_Part):
    """The stage that rules have set is this one (`is`), or one of these (`in`)."""

    type: Literal["stage"] = "stage"
    is_: Snake | None = Field(default=None, alias="is", exclude_if=_absent)
    in_: Several[Snake] | None = Field(default=None, alias="in", exclude_if=_absent)

    @property
    def values(self) -> frozenset[str]:
        """The stages that satisfy it."""
        return frozenset((self.is_,) if self.is_ is not None else self.in_ or ())

    @model_validator(mode="after")
    def _has_one_of_both(self) -> Self:
        _expect_one(self.is_, self.in_)
        return self


class Elapsed(_Part):
    """The run has worked for so long."""

    type: Literal["elapsed"] = "elapsed"
    op: Order
    seconds: Annotated[
        Annotated[Measure, Tag("number")] | Annotated[LimitRef, Tag("limit")], Discriminator(_bound_kind)
    ]


class Budget(_Part):
    """This part of a budget is spent; 1 is all of it. A budget that is not set is never spent."""

    type: Literal["budget"] = "budget"
    resource: Resource
    op: Order
    fraction: Measure


class AllOf(_Part):
    """Every condition holds."""

    type: Literal["all"] = "all"
    conditions: Several["Condition"]


class AnyOf(_Part):
    """At least one condition holds."""

    type: Literal["any"] = "any"
    conditions: Several["Condition"]


class Not(_Part):
    """The condition does not hold."""

    type: Literal["not"] = "not"
    condition: "Condition"


class Always(_Part):
    """Holds at every step."""

    type: Literal["always"] = "always"


Condition = Annotated[
    Counter | State | Stage | Elapsed | Budget | AllOf | AnyOf | Not | Always, Field(discriminator="type")
]
_CONDITION_TAGS = frozenset({"counter", "state", "stage", "elapsed", "budget", "all", "any", "not", "always"})


# --- actions


class Remove(_Part):
    """Take these tools away; `*` is every tool."""

    type: Literal["remove"] = "remove"
    tools: Several[ToolPattern]


class KeepOnly(_Part):
    """Take every other tool away; brings none back."""

    type: Literal["keep_only"] = "keep_only"
    tools: Several[ToolName]


class SetStage(_Part):
    """Move the run to a stage; the rules that follow see it at once, and it lasts."""

    type: Literal["set_stage"] = "set_stage"
    stage: Snake


class Force(_Part):
    """The model has to call this tool, if it is still there when all rules have been applied."""

    type: Literal["force"] = "force"
    tool: ToolName


class RequireApproval(_Part):
    """A call of these tools waits for a person. Not available in this release: refused when saved."""

    type: Literal["require_approval"] = "require_approval"
    tools: Several[ToolPattern]


Action = Annotated[Remove | KeepOnly | SetStage | Force | RequireApproval, Field(discriminator="type")]
_ACTION_TAGS = frozenset({"remove", "keep_only", "set_stage", "force", "require_approval"})
_UNSUPPORTED = (RequireApproval,)


class Rule(_Part):
    """What happens to the tools of a step when a condition holds."""

    name: Snake
    when: Condition
    then: Several[Action]
    phase: Phase = Phase.BEFORE_SEARCH

    @model_validator(mode="after")
    def _fits_its_phase(self) -> Self:
        if self.phase is Phase.TRANSITION and any(not isinstance(action, SetStage) for action in self.then):
            raise ValueError("a rule of the phase `transition` can only set the stage: no tools are chosen then")
        return self

    @model_validator(mode="after")
    def _is_not_too_deep(self) -> Self:
        if any(path.count("condition") >= _MAX_DEPTH for path, _ in conditions_of(self)):
            raise ValueError(f"conditions nest at most {_MAX_DEPTH} deep")
        return self


def conditions_of(rule: Rule) -> Iterator[tuple[str, Condition]]:
    """Each condition of a rule, outermost first, with its JSON path inside the rule."""
    todo: list[tuple[str, Condition]] = [("when", rule.when)]
    while todo:
        path, condition = todo.pop()
        yield path, condition
        match condition:
            case AllOf() | AnyOf():
                todo.extend((f"{path}.conditions[{i}]", part) for i, part in enumerate(condition.conditions))
            case Not():
                todo.append((f"{path}.condition", condition.condition))
            case _:
                pass


def unsupported_actions(rules: Sequence[Rule], root: str = "rules") -> list[tuple[str, str]]:
    """The actions that this release cannot carry out yet: JSON path and type of each."""
    return [
        (f"{root}[{i}].then[{j}]", action.type)
        for i, rule in enumerate(rules)
        for j, action in enumerate(rule.then)
        if isinstance(action, _UNSUPPORTED)
    ]


_TAGS_BEHIND = {
    "when": _CONDITION_TAGS,
    "condition": _CONDITION_TAGS,
    "conditions": _CONDITION_TAGS,
    "then": _ACTION_TAGS,
    "value": frozenset({"number", "limit"}),
    "seconds": frozenset({"number", "limit"}),
}


def json_path(loc: Sequence[str | int], root: str = "") -> str:
    """Where an error of pydantic is in the JSON, as `rules[0].when.value`.

    Pydantic names the branch of a union that it took in the location; the JSON
    has no such level, so those names are left out here.
    """
    path, tags = root, frozenset[str]()
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        if part in tags:
            tags = frozenset()
            continue
        path += f".{part}" if path else part
        tags = _TAGS_BEHIND.get(part, frozenset())
    return path
