"""All values that facts can take, as finitely many cells.

A rule sees a counter only through comparisons with a few numbers, so between
two neighbouring numbers every value behaves the same and one of them stands
for all. A *dimension* is one such quantity with its representatives; a
*region* is a set of cells: per dimension a bit mask of representatives. What a
region does not mention is free. Dimensions are taken as independent, which
contains every real combination and some that cannot occur.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from maruntime.domain.rule import (
    AllOf,
    Always,
    AnyOf,
    Budget,
    Condition,
    Counter,
    Elapsed,
    Not,
    Rule,
    Stage,
    State,
    conditions_of,
)
from maruntime.domain.run import RunState
from maruntime.rules.evaluate import COMPARE, Facts, threshold

Dimension = tuple[str, str]
"""(`counter`, name), (`elapsed`, ""), (`budget`, resource) or (`state`, "")."""
Region = Mapping[Dimension, int]
ELAPSED: Dimension = ("elapsed", "")
STATE: Dimension = ("state", "")


class TooComplex(Exception):
    """The search took more steps than it may; nothing is proven."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One dimension is in one of the cells of the mask."""

    dimension: Dimension
    mask: int


@dataclass(frozen=True, slots=True)
class Both:
    """Every part holds."""

    parts: tuple["Formula", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part holds."""

    parts: tuple["Formula", ...]


Formula = bool | Atom | Both | Either


class Cells:
    """The dimensions of a set of rules, and the work of a bounded search among their cells."""

    def __init__(self, rules: Sequence[Rule], limits: Mapping[str, int], max_work: int) -> None:
        self._limits = limits
        self._left = max_work
        self._formulas: dict[tuple[int, str, bool, bool], Formula] = {}
        thresholds: dict[Dimension, set[int | Fraction]] = {}
        for rule in rules:
            for _, condition in conditions_of(rule):
                if isinstance(condition, Counter | Elapsed | Budget):
                    thresholds.setdefault(_dimension(condition), set()).add(threshold(condition, limits))
        self._values: dict[Dimension, tuple[Any, ...]] = {
            dimension: _counts(numbers) if dimension[0] == "counter" else _measures(numbers)
            for dimension, numbers in thresholds.items()
        }
        self._values[STATE] = tuple(RunState)

    def top(self, region: Region, dimensions: Iterable[Dimension]) -> Region | None:
        """The part of a region where these dimensions are beyond every number that a rule names."""
        narrowed: Region | None = region
        for dimension in dimensions:
            if narrowed is None or dimension not in self._values:
                continue
            narrowed = self._narrow(narrowed, Atom(dimension, 1 << (len(self._values[dimension]) - 1)))
        return narrowed

    def assume(self, rule: Rule, stage: str, region: Region, *, holds: bool, state_is_free: bool) -> Iterator[Region]:
        """Split a region into parts in which the rule's condition holds (or does not)."""
        key = (id(rule), stage, holds, state_is_free)
        formula = self._formulas.get(key)
        if formula is None:
            formula = self._formulas[key] = self._formula(rule.when, stage, holds, state_is_free)
        return self._split((formula,), region)

    def work(self) -> None:
        """Count one step of a search.

        Raises:
            TooComplex: it was one too many.
        """
        self._left -= 1
        if self._left < 0:
            raise TooComplex

    def facts(self, region: Region, stage: str) -> Facts:
        """The facts of the lowest cell of a region; what is free stays out, which is 0."""
        lowest = {dimension: self._values[dimension][_lowest_bit(mask)] for dimension, mask in region.items()}
        return Facts(
            counters={name: value for (kind, name), value in lowest.items() if kind == "counter"},
            state=lowest.get(STATE, RunState.RUNNING),
            stage=stage,
            elapsed=timedelta(microseconds=int(lowest.get(ELAPSED, 0))),
            budget={name: value for (kind, name), value in lowest.items() if kind == "budget"},
        )

    def _split(self, formulas: tuple[Formula, ...], region: Region) -> Iterator[Region]:
        self.work()
        if not formulas:
            yield region
            return
        first, rest = formulas[0], formulas[1:]
        match first:
            case bool():
                if first:
                    yield from self._split(rest, region)
            case Atom():
                narrowed = self._narrow(region, first)
                if narrowed is not None:
                    yield from self._split(rest, narrowed)
            case Both():
                yield from self._split((*first.parts, *rest), region)
            case Either():
                for part in first.parts:
                    yield from self._split((part, *rest), region)

    def _narrow(self, region: Region, atom: Atom) -> Region | None:
        before = region.get(atom.dimension, -1)
        mask = before & atom.mask
        if mask == before:
            return region
        return {**region, atom.dimension: mask} if mask else None

    def _formula(self, condition: Condition, stage: str, wanted: bool, state_is_free: bool) -> Formula:
        match condition:
            case Counter() | Elapsed() | Budget():
                dimension, number = _dimension(condition), threshold(condition, self._limits)
                compare = COMPARE[condition.op]
                return self._atom(dimension, [compare(value, number) is wanted for value in self._values[dimension]])
            case State():
                if not state_is_free:
                    return (RunState.RUNNING in condition.values) is wanted
                return self._atom(STATE, [(state in condition.values) is wanted for state in RunState])
            case Stage():
                return (stage in condition.values) is wanted
            case Always():
                return wanted
            case Not():
                return self._formula(condition.condition, stage, not wanted, state_is_free)
            case AllOf() | AnyOf():
                parts = [self._formula(part, stage, wanted, state_is_free) for part in condition.conditions]
                return _joined(parts, all_of=isinstance(condition, AllOf) is wanted)

    def _atom(self, dimension: Dimension, holds: Sequence[bool]) -> Formula:
        mask = sum(1 << place for place, it in enumerate(holds) if it)
        if mask == 0 or all(holds):
            return mask != 0
        return Atom(dimension, mask)


def _joined(parts: Sequence[Formula], *, all_of: bool) -> Formula:
    """Join formulas: constants fold, nested ones of the same sort open, atoms of one dimension become one."""
    masks: dict[Dimension, int] = {}
    others: list[Formula] = []
    sort = Both if all_of else Either
    opened = [inner for part in parts for inner in (part.parts if isinstance(part, sort) else (part,))]
    for part in opened:
        match part:
            case bool():
                if part is not all_of:
                    return part
            case Atom():
                mask = masks.get(part.dimension)
                joined = part.mask if mask is None else mask & part.mask if all_of else mask | part.mask
                masks[part.dimension] = joined
            case _:
                others.append(part)
    if 0 in masks.values():
        return False
    joined_parts = (*(Atom(dimension, mask) for dimension, mask in masks.items()), *others)
    if len(joined_parts) == 1:
        return joined_parts[0]
    return sort(joined_parts) if joined_parts else all_of


def _dimension(condition: Counter | Elapsed | Budget) -> Dimension:
    match condition:
        case Counter():
            return ("counter", condition.counter)
        case Elapsed():
            return ELAPSED
        case Budget():
            return ("budget", condition.resource.value)


def _counts(numbers: set[int | Fraction]) -> tuple[int, ...]:
    """Whole numbers from 0 on: each threshold and its neighbours."""
    near = {0, *(int(number) + step for number in numbers for step in (-1, 0, 1))}
    return tuple(sorted(number for number in near if number >= 0))


def _measures(numbers: set[int | Fraction]) -> tuple[int | Fraction, ...]:
    """Reals from 0 on: each threshold, something between two, something beyond."""
    marks = sorted({0, *numbers})
    between = [(low + high) / Fraction(2) for low, high in itertools.pairwise(marks)]
    return tuple(sorted({*marks, *between, marks[-1] + 1}))


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1
