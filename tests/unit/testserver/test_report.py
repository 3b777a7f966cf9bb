"""R20: verdicts for people, for CI and for programs."""

import io
from xml.etree import ElementTree

import orjson
from rich.console import Console
from testserver.report import as_json, junit, show
from testserver.verdict import Failure, StepVerdict, Verdict

WRONG = Failure(where="text", expected="a <b> & [bold]", got={"bell": "\x07\ud800"[:1]})
VERDICTS = [
    Verdict(case="good", requirement=["R01", "R20"], passed=True, duration_ms=1500, llm_requests=2),
    Verdict(case="bad", requirement=["R08"], passed=False, steps=[StepVerdict.from_failures("ask\x07", [WRONG])]),
    Verdict.from_error("broken", "broken.yaml:3: unknown key"),
]


def test_junit_counts_and_tells_failures_from_errors():
    root = ElementTree.fromstring(junit(VERDICTS))
    suite = root.find("testsuite")

    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    good, bad, broken = suite.findall("testcase")
    assert good.get("time") == "1.500"
    assert [item.get("value") for item in good.iter("property")] == ["R01", "R20"]
    assert good.find("failure") is None
    failure, error = bad.find("failure"), broken.find("error")
    assert failure is not None
    assert "a <b> & [bold]" in (failure.text or "")
    assert error is not None
    assert "broken.yaml:3" in (error.get("message") or "")


def test_json_holds_every_verdict():
    document = orjson.loads(as_json(VERDICTS))

    assert document["passed"] is False
    assert [Verdict.model_validate(verdict) for verdict in document["verdicts"]] == VERDICTS
    assert orjson.loads(as_json(VERDICTS[:1]))["passed"] is True


def test_the_table_shows_every_case_and_every_failure():
    out = io.StringIO()

    show(VERDICTS, Console(file=out, width=120))

    text = out.getvalue()
    assert all(name in text for name in ("good", "bad", "broken", "passed", "failed", "error"))
    assert "expected a <b> & [bold]" in text
    assert "1 of 3 passed" in text
