"""R20: a case that is wrong, or could prove nothing, is refused with its file and line."""

from pathlib import Path

import pytest
from testserver.loader import CaseInvalid, load_file, load_folder, load_text

CHECKOUT = Path(__file__).resolve().parents[3]

GOOD = """\
name: good
requirement: [R20]
description: It answers.
arrange:
  llm:
    - reply: {content: "Hello, ${unique}."}
act:
  - chat:
      name: hello
      model: assistant
      content: Hi
      expect: {text: "Hello, ${unique}."}
assert:
  - llm: {requests: 1}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(CaseInvalid) as refused:
        load_text(text, "good.yaml")
    return refused.value.problems


def test_a_good_case_is_read_whole():
    case = load_text(GOOD, "good.yaml")

    assert case.name == "good"
    assert case.act[0].kind == "chat"
    assert case.asserts[0].chosen.requests == 1
    assert not case.is_exclusive


def test_the_shipped_cases_are_valid():
    found = load_folder(CHECKOUT / "cases")

    assert found.broken == {}
    assert {"smoke", "clarification", "clarification_route", "instance_reuse"} <= found.cases.keys()
    assert found.cases["clarification"].needs_control


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: hello", "nmae: hello", 9, "act.0.chat.nmae: unknown key"),
        ("content: Hi", "content: 7", 11, "valid string"),
        ("requirement: [R20]", "requirement: []", 2, "at least 1"),
        ("requirement: [R20]\n", "", 1, "requirement: this key is missing"),
        ("requirement: [R20]", "requirement: [R2]", 2, "match pattern"),
        ("{requests: 1}", "{requests: '1'}", 14, "valid integer"),
        ("description: It answers.", "description: a: b", 3, "mapping values are not allowed here"),
        ("content: Hi", "content: Hi\n      content: Ho", 12, "here twice"),
        ('- reply: {content: "Hello, ${unique}."}', "- reply: {}", 6, "exactly one of these keys is needed"),
        ('- reply: {content: "Hello, ${unique}."}', "- reply: {content: a, json: {}}", 6, "exactly one"),
        ("model: assistant", "stream: yes\n      model: assistant", 10, "valid boolean"),
        ("{requests: 1}", "{}", 14, "is empty"),
        ("{requests: 1}", "{requests: 2}", 14, "the script allows 1 requests, never 2"),
        ("{requests: 1}", "{requests: 0}", 14, "the script allows 1 requests, never 0"),
        ("{requests: 1}", "{at: 1, model: m}", 14, "no request 1"),
        ("{requests: 1}", "{offered: [a]}", 14, "say with `at`"),
        ("{requests: 1}", "{at: 0}", 14, "asserts nothing about that request"),
        ("- llm: {requests: 1}", "- history: {session: s}", 14, "asserts nothing about the history"),
        ("- llm: {requests: 1}", "- values: {of: unique}", 14, "asserts nothing about the values"),
        ("- llm: {requests: 1}", "- values: {of: runs, count: 1}", 14, "nothing collects 'runs'"),
        ("- llm: {requests: 1}", "- http: {path: /x}", 14, "asserts nothing: add an expect"),
        ("- llm: {requests: 1}", "- llm: {requests: 1}\n  - nothing: 1", 15, "unknown key"),
        ('expect: {text: "Hello, ${unique}."}', "expect: {}", 12, "is empty"),
        ('{text: "Hello, ${unique}."}', "{deltas_at_least: 2}", 12, "a whole answer has no deltas"),
        ('{text: "Hello, ${unique}."}', "{content_once: true}", 12, "needs text or text_contains"),
        ('{text: "Hello, ${unique}."}', "{content_once: false}", 12, "True"),
        ('{text: "Hello, ${unique}."}', "{text_contains: []}", 12, "at least 1"),
        ('{text: "Hello, ${unique}."}', "{text_matches: '('}", 12, "not a regular expression"),
        ('{text: "Hello, ${unique}."}', "{status: 404, text: x}", 12, "a refused request never has text"),
        ('{text: "Hello, ${unique}."}', "{status: 200, error_code: x}", 12, "never has status 200"),
        ('{text: "Hello, ${unique}."}', "{json: {/a: {$is: 1}}}", 12, "unknown operator '$is'"),
        ('{text: "Hello, ${unique}."}', "{json: {/a: {$matches: '('}}}", 12, "not a regular expression"),
        ('{text: "Hello, ${unique}."}', "{json: {/a: {$present: true, b: 1}}}", 12, "stands alone"),
        ('{text: "Hello, ${unique}."}', "{json: {a: 1}}", 12, "match pattern"),
        ("content: Hi", "content: Hi\n      via: stream", 12, "always streams"),
        ("content: Hi", "content: Hi\n      include_usage: true", 12, "only a stream"),
        ("content: Hi", "content: Hi\n      messages: [{role: user}]", 8, "content, messages"),
        ("content: Hi", "content: Hi\n      params: {stream: true}", 12, "a key of its own"),
        ("content: Hi", "content: ${other}", 11, "nothing sets the variable 'other'"),
        ("content: Hi", "content: 'a ${b c}'", 11, "starts no variable"),
        ("content: Hi", "content: Hi\n      save: {unique: text}", 12, "is built in"),
        ("content: Hi", "content: Hi\n      save: {a: nonsense}", 12, "match pattern"),
        ("content: Hi", "content: Hi\n      save: {a: text}\n      collect: {a: text}", 13, "saved and collected"),
        ("content: Hi", "content: &a [*a]", 11, "contains itself"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, line: int, says: str):
    assert old in GOOD

    found = problems(GOOD.replace(old, new))

    assert any(text.startswith(f"good.yaml:{line}: ") and says in text for text in found), found


def test_a_case_that_asserts_nothing_is_refused():
    text = GOOD.split("assert:")[0].replace('      expect: {text: "Hello, ${unique}."}\n', "")

    assert problems(text) == ["good.yaml:1: a case that asserts nothing proves nothing: add an expect or an assert"]


def test_a_case_that_asks_nothing_is_refused():
    text = GOOD.split("act:")[0] + "act:\n  - kill: {processes: ['worker-*']}\nassert:\n  - llm: {requests: 1}\n"

    assert any("nothing is asked of the stack" in problem for problem in problems(text))


def test_a_stream_has_usage_only_when_it_is_asked_for():
    text = GOOD.replace("content: Hi", "content: Hi\n      stream: true").replace(
        "{text: ", "{usage_present: true, text: "
    )

    assert any(problem.startswith("good.yaml:13:") and "include_usage" in problem for problem in problems(text))


def test_two_steps_never_share_a_name():
    again = "  - chat: {name: hello, model: assistant, content: again}\nassert:"

    assert any("another step is named 'hello'" in text for text in problems(GOOD.replace("assert:", again)))


def test_a_variable_is_not_known_before_the_step_that_saves_it():
    early = GOOD.replace("model: assistant", 'model: "${s}"\n      save: {s: session_id}')

    assert any(text.startswith("good.yaml:10:") for text in problems(early))


@pytest.mark.parametrize(
    "wait",
    ["{within_s: 1}", "{session: s}", "{state: WAITING}", "{session: s, run: r, state: X}", "{path: /x, pointer: /y}"],
)
def test_a_wait_has_exactly_one_target(wait: str):
    text = GOOD.replace("assert:", f"  - wait_for: {wait}\nassert:")

    assert any(problem.startswith("good.yaml:13:") for problem in problems(text))


def test_dates_and_yes_and_no_are_texts():
    case = load_text(
        GOOD.replace("content: Hi", "messages: [{role: user, content: no, when: 2024-01-01}]"), "good.yaml"
    )

    assert case.act[0].chosen.messages == [{"role": "user", "content": "no", "when": "2024-01-01"}]


def test_an_empty_file_and_two_documents_are_refused():
    assert problems("") == ["good.yaml:1: the file is empty"]
    assert "another document" in problems(GOOD + "---\na: 1\n")[0]


def test_the_case_is_named_as_its_file(tmp_path: Path):
    (tmp_path / "other.yaml").write_text(GOOD)

    with pytest.raises(CaseInvalid, match="its file 'other'"):
        load_file(tmp_path / "other.yaml")


def test_a_broken_case_hides_no_other(tmp_path: Path):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("name: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")

    found = load_folder(tmp_path)

    assert [*found.cases] == ["good"]
    assert found.broken.keys() == {"bad", "binary"}
    assert found.broken["bad"][0].startswith(f"{tmp_path}/bad.yaml:")
