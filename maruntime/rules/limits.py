"""The limits of a template, as rules. No agent and no loop has a limit of its own.

They stand behind the rules of the template, so that nothing a template says
can outlast them. At `max_iterations` what is left is the report and the answer
(`reasoning` stays beside them: it costs a step nothing and some agents begin
with it); one step later, and when time or a budget is over, only the answer.
"""

from collections.abc import Collection, Mapping

from maruntime.domain.rule import Budget, Condition, Counter, Elapsed, KeepOnly, LimitRef, Remove, Resource, Rule

TERMINAL_TOOLS = frozenset({"final_answer", "answer"})
"""The tools that end a run: the answer, and the one with which a dialog agent hands the turn back."""

_ANSWER = ("final_answer", "answer")
_AT_THE_END = ("reasoning", "create_report", *_ANSWER)


def limit_rules(limits: Mapping[str, int], tools: Collection[str] | None = None) -> tuple[Rule, ...]:
    """Make the rules that carry out the limits.

    A limit that is not given has no rule. With `tools`, the rules name only
    tools of the template, and a rule about a tool it does not have is left out.
    """
    rules: list[Rule | None] = []
    if "max_iterations" in limits:
        rules.append(_keeping("max_iterations", _reached("iteration", "max_iterations"), _AT_THE_END, tools))
        late = Counter(counter="iteration", op="gt", value=LimitRef(limit="max_iterations"))
        rules.append(_keeping("over_max_iterations", late, _ANSWER, tools))
    if "max_searches" in limits:
        rules.append(_removing("max_searches", "searches", "web_search", tools))
    if "max_clarifications" in limits:
        rules.append(_removing("max_clarifications", "clarifications", "clarification", tools))
    for resource in Resource:
        spent = Budget(resource=resource, op="ge", fraction=1)
        rules.append(_keeping(f"budget_{resource}", spent, _ANSWER, tools))
    if "max_seconds" in limits:
        over = Elapsed(op="ge", seconds=LimitRef(limit="max_seconds"))
        rules.append(_keeping("max_seconds", over, _ANSWER, tools))
    return tuple(rule for rule in rules if rule is not None)


def _reached(counter: str, limit: str) -> Counter:
    return Counter(counter=counter, op="ge", value=LimitRef(limit=limit))


def _keeping(name: str, when: Condition, wanted: tuple[str, ...], tools: Collection[str] | None) -> Rule | None:
    kept = tuple(tool for tool in wanted if tools is None or tool in tools)
    return Rule(name=name, when=when, then=(KeepOnly(tools=kept),)) if kept else None


def _removing(name: str, counter: str, tool: str, tools: Collection[str] | None) -> Rule | None:
    if tools is not None and tool not in tools:
        return None
    return Rule(name=name, when=_reached(counter, name), then=(Remove(tools=(tool,)),))
