"""Which tools a step offers, and why each of the others is not among them.

Pure: it is given the tools, the policy, the rules and what was found, and
returns a verdict on every tool that can be stored and shown as it is. Two
moves, since the search lies between them: `narrowed` says who may be searched
and whether a search is needed at all, `chosen` settles the rest.

    denied by policy > removed by a rule > required > found > fallback
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.retrieval.ranking import Candidate

Rules = Callable[[Sequence[str]], Mapping[str, str]]
"""Given names of tools, which of them go: name to the rule that removes it."""


class Mode(StrEnum):
    """How the optional tools were chosen."""

    ALL_FIT = "all_fit"
    SEARCH = "search"
    FALLBACK = "fallback"


class Reason(StrEnum):
    """Why a tool is offered or not."""

    REQUIRED = "required"
    ALL_FIT = "all_fit"
    FOUND = "found"
    FALLBACK = "fallback"
    NOT_ALLOWED = "not_allowed"
    DENIED = "denied"
    RULE = "rule"
    NOT_FOUND = "not_found"
    OVER_LIMIT = "over_limit"


@dataclass(frozen=True, slots=True)
class Selectable:
    """A tool as the selection sees it."""

    version_id: str
    name: str


@dataclass(frozen=True, slots=True)
class SelectionPolicy:
    """What the template says about its tools, by name.

    `allow` None is every tool. Required tools are outside the cap's choice: they
    are always kept and the cap is what they leave over.
    """

    max_tools_in_prompt: int
    allow: tuple[str, ...] | None = None
    deny: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ToolVerdict:
    """One tool: kept or dropped, the reason, and how the search saw it."""

    name: str
    version_id: str
    kept: bool
    reason: Reason
    rule: str | None = None
    candidate: Candidate | None = None

    def to_json(self) -> dict[str, Any]:
        """The verdict as it is stored and shown."""
        found = self.candidate
        return {
            "name": self.name,
            "version_id": self.version_id,
            "kept": self.kept,
            "reason": self.reason.value,
            "rule": self.rule,
            "score": found.score if found else None,
            "cosine": found.cosine if found else None,
            "ranks": {leg.value: rank for leg, rank in sorted(found.ranks.items())} if found else {},
        }


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The tools that may be offered, before any search."""

    policy: SelectionPolicy
    tools: tuple[Selectable, ...]
    required: tuple[Selectable, ...]
    optional: tuple[Selectable, ...]
    dropped: Mapping[str, ToolVerdict]

    @property
    def room(self) -> int:
        """How many optional tools fit into the prompt."""
        return max(0, self.policy.max_tools_in_prompt - len(self.required))

    @property
    def needs_search(self) -> bool:
        """Whether there are more optional tools than room."""
        return len(self.optional) > self.room and self.room > 0

    @property
    def searchable(self) -> frozenset[str]:
        """The version ids to search among."""
        return frozenset(tool.version_id for tool in self.optional)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a step offers. `kept` is in the order of the tools given, whatever their ranks."""

    mode: Mode
    limit: int
    kept: tuple[str, ...]
    verdicts: tuple[ToolVerdict, ...]

    def to_json(self) -> dict[str, Any]:
        """The explanation as it is stored and shown."""
        return {
            "mode": self.mode.value,
            "limit": self.limit,
            "kept": list(self.kept),
            "tools": [verdict.to_json() for verdict in self.verdicts],
        }


def narrowed(tools: Sequence[Selectable], policy: SelectionPolicy, before: Rules | None = None) -> Narrowed:
    """Apply the policy and the rules that come before the search."""
    dropped: dict[str, ToolVerdict] = {}
    for tool in tools:
        if tool.name in policy.deny:
            dropped[tool.name] = _dropped(tool, Reason.DENIED)
        elif not (policy.allow is None or tool.name in policy.allow or tool.name in policy.required):
            dropped[tool.name] = _dropped(tool, Reason.NOT_ALLOWED)
    left = [tool for tool in tools if tool.name not in dropped]
    removed = before([tool.name for tool in left]) if before else {}
    dropped |= {tool.name: _dropped(tool, Reason.RULE, removed[tool.name]) for tool in left if tool.name in removed}
    left = [tool for tool in left if tool.name not in removed]
    return Narrowed(
        policy=policy,
        tools=tuple(tools),
        required=tuple(tool for tool in left if tool.name in policy.required),
        optional=tuple(tool for tool in left if tool.name not in policy.required),
        dropped=dropped,
    )


def chosen(narrowed: Narrowed, found: Sequence[Candidate] | None, after: Rules | None = None) -> Selection:
    """Settle the optional tools by what was found (None: nobody searched), then apply the last rules.

    When nothing was found, the first tools of the allowlist are offered, as far as
    there is room. What the last rules remove leaves its place empty: a tool that was
    ranked lower does not move up.
    """
    by_version = {candidate.version_id: candidate for candidate in found or ()}
    offered, mode, reason = _offered(narrowed, [candidate.version_id for candidate in found or ()])
    keep = {tool.name for tool in narrowed.required} | {tool.name for tool in offered}
    removed = after([tool.name for tool in narrowed.tools if tool.name in keep]) if after else {}
    required = {tool.name for tool in narrowed.required}

    def verdict(tool: Selectable) -> ToolVerdict:
        candidate = by_version.get(tool.version_id)
        if tool.name in narrowed.dropped:
            return narrowed.dropped[tool.name]
        if tool.name in removed and tool.name in keep:
            return ToolVerdict(tool.name, tool.version_id, False, Reason.RULE, removed[tool.name], candidate)
        if tool.name in required:
            return ToolVerdict(tool.name, tool.version_id, True, Reason.REQUIRED, None, candidate)
        if tool.name in keep:
            return ToolVerdict(tool.name, tool.version_id, True, reason, None, candidate)
        why = Reason.OVER_LIMIT if candidate or mode is not Mode.SEARCH else Reason.NOT_FOUND
        return ToolVerdict(tool.name, tool.version_id, False, why, None, candidate)

    verdicts = tuple(verdict(tool) for tool in narrowed.tools)
    kept = tuple(verdict.name for verdict in verdicts if verdict.kept)
    return Selection(mode, narrowed.policy.max_tools_in_prompt, kept, verdicts)


def _offered(narrowed: Narrowed, ranked: Sequence[str]) -> tuple[Collection[Selectable], Mode, Reason]:
    if len(narrowed.optional) <= narrowed.room:
        return narrowed.optional, Mode.ALL_FIT, Reason.ALL_FIT
    by_version = {tool.version_id: tool for tool in narrowed.optional}
    hits = [by_version[version_id] for version_id in ranked if version_id in by_version]
    if hits:
        return hits[: narrowed.room], Mode.SEARCH, Reason.FOUND
    order = {name: place for place, name in enumerate(narrowed.policy.allow or ())}
    by_allowlist = sorted(narrowed.optional, key=lambda tool: order.get(tool.name, len(order)))
    return by_allowlist[: narrowed.room], Mode.FALLBACK, Reason.FALLBACK


def _dropped(tool: Selectable, reason: Reason, rule: str | None = None) -> ToolVerdict:
    return ToolVerdict(tool.name, tool.version_id, False, reason, rule)
