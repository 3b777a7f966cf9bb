"""What can be wrong with a template beyond its form: names that lead nowhere, rules without an end, prompts."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import yaml

from maruntime.domain.rule import ALL_TOOLS, CALLS_PREFIX, Counter, Rule, conditions_of, unsupported_actions
from maruntime.domain.template import AgentKind, TemplateBody
from maruntime.rules.limits import limit_rules
from maruntime.rules.lint import Problem, lint
from orchestrator.catalog.validation import Draft, read, text_problems

PROMPT_VARIABLES = frozenset({"tools", "date"})

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ANSWER, _HAND_BACK, _REASONING = "final_answer", "answer", "reasoning"
_REASONS_FIRST = (AgentKind.SGR_TOOL_CALLING, AgentKind.DIALOG)
_LIMITED = ("reasoning", "create_report", "clarification", "web_search")
"""The tools that rules of limits treat each in its own way."""
_PACKS = Path(__file__).parent / "defaults" / "prompt_packs.yaml"


@cache
def prompt_packs() -> frozenset[str]:
    """The prompt packs that workers of this release have."""
    return frozenset(yaml.safe_load(_PACKS.read_text(encoding="utf-8")))


def name_problems(name: object) -> Iterator[Problem]:
    """A template's name is what clients send as `model`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield Problem("invalid_value", "name", "1 to 64 of a-z, 0-9, _ and -, beginning with a letter or a digit.")
    elif name == "auto" or name.startswith("sess_"):
        yield Problem("reserved_name", "name", "As a `model` this name means something else.")


def check_template(
    given: Mapping[str, Any], tools: Mapping[str, bool], *, activating: bool = True
) -> tuple[TemplateBody | None, list[Problem]]:
    """Read a template and find what is wrong with it.

    `tools` says of each tool of the catalog whether it is active. A needed tool
    that is not active is an error only when the version is about to be active.
    """
    draft = read(TemplateBody, given, {"kind": "passthrough", "description": "-"})
    problems = list(draft.problems)
    body, sound = draft.partial, draft.sound
    if "system_prompt" in sound:
        problems += _prompt_problems(body.system_prompt)
    if "prompt_pack" in sound and body.prompt_pack not in prompt_packs():
        problems.append(Problem("unknown_prompt_pack", "prompt_pack", f"There is no pack {body.prompt_pack!r}."))
    if "card" in sound:
        problems += text_problems("card.tags", body.card.tags, at_most=32, longest=64)
        problems += text_problems("card.examples", body.card.examples, at_most=64, longest=500)
    if "tools" in sound:
        problems += _tool_problems(draft, tools)
    if {"tools", "tool_policy", "kind"} <= sound:
        problems += _kind_problems(body, tools, activating=activating)
    if {"tools", "tool_policy", "rules", "limits", "kind"} <= sound:
        problems += _rule_problems(body, tools)
    return draft.model, problems


def needed_tools(body: TemplateBody) -> tuple[str, ...]:
    """The tools without which a session of the template cannot work."""
    if body.kind is AgentKind.PASSTHROUGH:
        return ()
    needed = list(body.tool_policy.required)
    if body.kind in _REASONS_FIRST:
        needed.append(_REASONING)
    needed.append(_HAND_BACK if body.kind is AgentKind.DIALOG and _HAND_BACK in body.tools else _ANSWER)
    return tuple(dict.fromkeys(needed))


def named_tools(body: TemplateBody) -> dict[str, bool]:
    """The tools that a template names, and whether it needs each."""
    needed = needed_tools(body)
    return {name: name in needed for name in (*body.tools, *needed)}


def _prompt_problems(text: str | None) -> Iterator[Problem]:
    if text is None:
        return
    if not text.strip():
        yield Problem("blank", "system_prompt", "Must not be blank; leave it out to use the pack's.")
    for match in Template.pattern.finditer(text):
        name = match.group("named") or match.group("braced")
        line = text.count("\n", 0, match.start()) + 1
        if match.group("invalid") is not None:
            yield Problem("invalid_placeholder", "system_prompt", f"Line {line}: a lone `$` is written `$$`.")
        elif name is not None and name not in PROMPT_VARIABLES:
            known = ", ".join(f"`${known}`" for known in sorted(PROMPT_VARIABLES))
            yield Problem(
                "unknown_variable", "system_prompt", f"Line {line}: `${name[:64]}` has no value; known: {known}."
            )


def _tool_problems(draft: Draft[TemplateBody], known: Mapping[str, bool]) -> Iterator[Problem]:
    body = draft.partial
    yield from _naming("tools", body.tools, known)
    if "tool_policy" not in draft.sound:
        return
    policy = body.tool_policy
    yield from _naming("tool_policy.deny", policy.deny, known)
    yield from _naming("tool_policy.required", policy.required, known)
    for place, name in enumerate(policy.required):
        at = f"tool_policy.required[{place}]"
        if name == ALL_TOOLS:
            continue
        if name not in body.tools and ALL_TOOLS not in body.tools:
            yield Problem("not_allowed", at, f"{name!r} is required but is not in `tools`.")
        if name in policy.deny:
            yield Problem("denied", at, f"{name!r} is required and denied.")


def _naming(path: str, names: tuple[str, ...], known: Mapping[str, bool]) -> Iterator[Problem]:
    seen: set[str] = set()
    for place, name in enumerate(names):
        at = f"{path}[{place}]"
        if name in seen:
            yield Problem("duplicate", at, f"{name[:64]!r} is there twice.")
        elif name == ALL_TOOLS:
            if path != "tools":
                yield Problem("invalid_value", at, "`*` is for `tools` only.")
        elif name not in known:
            yield Problem("unknown_tool", at, f"There is no tool {name[:64]!r}.")
        elif not known[name]:
            yield Problem("inactive_tool", at, f"The tool {name!r} is not active.", "warning")
        seen.add(name)


def _allowed(body: TemplateBody, known: Mapping[str, bool]) -> list[str]:
    names = [*body.tools, *known] if ALL_TOOLS in body.tools else body.tools
    return [name for name in dict.fromkeys(names) if name != ALL_TOOLS and name not in body.tool_policy.deny]


def _kind_problems(body: TemplateBody, known: Mapping[str, bool], *, activating: bool) -> Iterator[Problem]:
    if body.kind is AgentKind.PASSTHROUGH:
        if body.tools:
            yield Problem("kind_mismatch", "tools", "A passthrough agent has no tools.")
        return
    allowed = frozenset(_allowed(body, known))
    if body.kind in _REASONS_FIRST and _REASONING not in allowed:
        yield Problem("missing_tool", "tools", f"An agent of the kind {body.kind.value} needs the tool {_REASONING!r}.")
    ends = (_ANSWER, _HAND_BACK) if body.kind is AgentKind.DIALOG else (_ANSWER,)
    if not allowed.intersection(ends):
        yield Problem("missing_terminal", "tools", f"Without {' or '.join(map(repr, ends))} a run cannot end.")
    needed = needed_tools(body)
    if len(needed) > body.tool_policy.max_tools_in_prompt:
        message = f"{len(needed)} tools are always in the prompt."
        yield Problem("out_of_range", "tool_policy.max_tools_in_prompt", message)
    for name in needed if activating else ():
        if known.get(name) is False and name in allowed:
            yield Problem("inactive_tool", "tools", f"The template needs {name!r}, which is not active.")


def _rule_problems(body: TemplateBody, known: Mapping[str, bool]) -> Iterator[Problem]:
    for path, action in unsupported_actions(body.rules):
        yield Problem("unsupported_action", f"{path}.type", f"The action {action!r} is not available yet.")
    allowed = _allowed(body, known)
    ends = {_ANSWER, _HAND_BACK} if body.kind is AgentKind.DIALOG else {_ANSWER}
    limits = body.limits.model_dump(exclude_none=True)
    # A tool that no rule names is like any other such tool: one stands for all, whatever the catalog's size.
    special = {*_LIMITED, *ends, *_named_by(body.rules)}
    relevant = [name for name in allowed if name in special]
    relevant += [name for name in allowed if name not in special][:1]
    yield from lint(
        body.rules,
        relevant,
        limits=limits,
        terminal_tools=ends if ends.intersection(relevant) else (),
        shipped=limit_rules(limits, relevant),
    )


def _named_by(rules: tuple[Rule, ...]) -> Iterator[str]:
    for rule in rules:
        for action in rule.then:
            yield from getattr(action, "tools", ())
            yield getattr(action, "tool", "")
        for _, condition in conditions_of(rule):
            if isinstance(condition, Counter):
                yield condition.counter.removeprefix(CALLS_PREFIX)
