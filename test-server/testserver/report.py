"""Show verdicts: a table for people, JUnit for CI, JSON for programs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from testserver.verdict import Failure, StepVerdict, Verdict

# What XML 1.0 cannot carry, even escaped.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLOURS = {"passed": "green", "failed": "red", "error": "magenta"}


def show(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print the table, then every failure in full."""
    table = Table("case", "requirement", "verdict", "steps", "LLM", "ms")
    for verdict in verdicts:
        colour = _COLOURS[verdict.outcome]
        steps = f"{sum(step.passed for step in verdict.steps)}/{len(verdict.steps)}"
        table.add_row(
            escape(verdict.case),
            " ".join(verdict.requirement),
            f"[{colour}]{verdict.outcome}[/]",
            steps,
            str(verdict.llm_requests),
            str(verdict.duration_ms),
        )
    console.print(table)
    for verdict in verdicts:
        for line in _details(verdict):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    passed = sum(verdict.passed for verdict in verdicts)
    console.print(f"{passed} of {len(verdicts)} passed")


def junit(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts as a JUnit document."""
    counts = {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.outcome == "failed" for verdict in verdicts)),
        "errors": str(sum(verdict.outcome == "error" for verdict in verdicts)),
        "skipped": "0",
        "time": _seconds(sum(verdict.duration_ms for verdict in verdicts)),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "cases", **counts})
    for verdict in verdicts:
        _add_testcase(suite, verdict)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def as_json(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts as one JSON document."""
    document = {"passed": all(v.passed for v in verdicts), "verdicts": [v.model_dump() for v in verdicts]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _add_testcase(suite: ElementTree.Element, verdict: Verdict) -> None:
    attributes = {"classname": "cases", "name": _printable(verdict.case), "time": _seconds(verdict.duration_ms)}
    testcase = ElementTree.SubElement(suite, "testcase", attributes)
    if verdict.requirement:
        properties = ElementTree.SubElement(testcase, "properties")
        for requirement in verdict.requirement:
            ElementTree.SubElement(properties, "property", {"name": "requirement", "value": requirement})
    if verdict.passed:
        return
    tag = "error" if verdict.outcome == "error" else "failure"
    details = [_printable(line) for line in _details(verdict)]
    element = ElementTree.SubElement(testcase, tag, {"message": details[1] if len(details) > 1 else details[0]})
    element.text = "\n".join(details)


def _details(verdict: Verdict) -> Iterator[str]:
    if verdict.passed:
        return
    yield f"{verdict.case}: {verdict.outcome}"
    if verdict.error is not None:
        yield f"  {verdict.error}"
    for step, failure in _failures(verdict.steps):
        yield f"  {step.name}: {failure.where}: expected {_shown(failure.expected)}, got {_shown(failure.got)}"


def _failures(steps: Sequence[StepVerdict]) -> Iterator[tuple[StepVerdict, Failure]]:
    for step in steps:
        for failure in step.failures:
            yield step, failure


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"
