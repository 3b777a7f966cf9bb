import json
import time

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.agents.text_form import NoCall, find_call
from agent_worker.prompts.prompt_pack import form_of_calls
from maruntime.domain.commit import EndKind
from maruntime.domain.template import AgentKind
from maruntime.testing.builders import a_tool, assistant
from tests.unit.agent_worker.builders import FINAL, REPORT, Scene, final, reply, report

TEXT = {"kind": AgentKind.TEXT, "tools": (REPORT, FINAL)}
LOOK = ["look"]


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


def written(call, before="", behind=""):
    text = orjson.dumps({"tool": call.name, "arguments": json.loads(call.arguments)}).decode()
    return reply(content=before + text + behind, finish_reason="stop")


async def test_a_call_is_read_out_of_the_text():
    scene = Scene(written(report("T"), "I write.\n```json\n", "\n```"), written(final("Here.")), **TEXT)

    t1, t3, t4 = await scene.run()

    assert (scene.llm.requests[0].tools, scene.llm.requests[0].response_format) == ((), None)
    assert t1.calls[0].arguments == orjson.loads(report("T").arguments)
    assert t1.messages[0].content == "I write."
    assert t3.artifacts[0].name == "T"
    assert t4.messages == (assistant("Here."),)
    assert scene.line.content == "", "the answer comes whole, with the end of the run"


async def test_the_prompt_has_the_form_and_the_transcript_has_no_roles_for_tools():
    scene = Scene(written(report("T"), "I write. "), written(final()), **TEXT)

    commits = await scene.run()

    assert scene.llm.requests[0].messages[0]["content"].endswith(form_of_calls((REPORT, FINAL)))
    asked, made, result = scene.llm.read(1)
    assert asked == {"role": "user", "content": "Hi"}
    assert made["content"] == f'I write.\n{{"tool": "create_report", "arguments": {report("T").arguments}}}'
    assert result == {"role": "user", "content": f"[result of create_report]\n{commits[1].messages[0].content}"}
    assert all(message.keys() == {"role", "content"} for message in scene.llm.read(1))


def test_the_form_names_each_tool_with_its_schema():
    assert form_of_calls([a_tool()]) == (
        "How to call a tool: write one JSON object and nothing behind it, in this form:\n"
        '{"tool": "<name of the tool>", "arguments": {<its arguments>}}\n'
        "\n"
        "A thought may stand before the object, in a few words. The result of the tool comes with the next message. "
        "Text without such an object reaches nobody.\n"
        "\n"
        "Tools of this step:\n"
        "\n"
        "look: Looks.\n"
        'Arguments (JSON Schema): {"type":"object","properties":{}}\n'
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("The answer is 42.", "Plain text reaches nobody"),
        ('{"tool": "create_report", "arguments": {', "no JSON object that can be read"),
        ('{"tool": "pay", "arguments": {}}', "There is no tool 'pay' now"),
    ],
)
async def test_text_without_a_call_is_told_and_asked_for_again(text, told):
    scene = Scene(reply(content=text, finish_reason="stop"), written(final("A")), **TEXT)

    rejected, t4 = await scene.run()

    assert rejected.counters["invalid_answers"] == 1
    assert told in scene.llm.read(1)[-1]["content"]
    assert t4.end.kind is EndKind.COMPLETED


async def test_text_without_a_call_is_bounded():
    commits = await Scene(*[reply(content="42", finish_reason="stop")] * 3, **TEXT).run()

    assert commits[-1].end.failure.code == "invalid_answers"


@pytest.mark.parametrize(
    "text",
    [
        '{"tool": "look", "arguments": {"a": "it\'s"}}',
        '{"name": "look", "args": {"a": "it\'s"}}',
        '{"function": {"name": "look", "arguments": "{\\"a\\": \\"it\'s\\"}"}}',
        '<tool_call>{"name": "look", "parameters": {"a": "it\'s"}}</tool_call>',
        '{"tool": "look", "a": "it\'s"}',
        '{"tool": "look", "arguments": {"a": "it\'s",},}',
        "{'tool': 'look', 'arguments': {'a': 'it\\'s'}}",
        "{'tool': 'look', 'arguments': {'a': \"it's\"}}",
        'First {so}, then {"x": 1}: {"tool": "look", "arguments": {"a": "it\'s"}} }',
        '<think>{"tool": "pay"}</think>{"tool": "look", "arguments": {"a": "it\'s"}}',
        '[{"tool": "look", "arguments": {"a": "it\'s"}}, {"tool": "look"}]',
        '{"tool": "pay"} or rather {"tool": "look", "arguments": {"a": "it\'s"}}',
    ],
)
def test_what_is_nearly_a_call_is_one(text):
    found = find_call(text, LOOK)

    assert (found.call.name, json.loads(found.call.arguments)) == ("look", {"a": "it's"})


def test_pythons_words_and_raw_line_breaks_are_read():
    found = find_call('{"tool": "look", "arguments": {"a": True, "b": None, "c": "True,\n}"}}', LOOK)

    assert json.loads(found.call.arguments) == {"a": True, "b": None, "c": "True,\n}"}


def test_backslashes_that_json_does_not_know_stay():
    found = find_call(r'{"tool": "look", "arguments": {"a": "\d \n C:\x", },}', LOOK)

    assert json.loads(found.call.arguments) == {"a": "\\d \n C:\\x"}


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"a":' * 20_000,
        '"\\"' * 50_000 + "{" + '\\"' * 50_000,
        "{'" * 50_000,
        "<think>" * 20_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "{" + "'\\" * 50_000,
    ],
)
def test_no_text_holds_up_the_worker(text):
    started = time.process_time()

    with pytest.raises(NoCall):
        find_call(text, LOOK)

    assert time.process_time() - started < 2


def test_an_object_within_the_arguments_of_another_call_is_no_call():
    """What a tool is told is data, whatever it looks like."""
    with pytest.raises(NoCall, match="pay"):
        find_call('{"tool": "pay", "arguments": {"text": {"tool": "look", "arguments": {}}}}', LOOK)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), _json, max_size=3), st.sampled_from([None, 2]), st.booleans())
def test_whatever_the_arguments_hold_comes_through(arguments, indent, ascii_only):
    said = json.dumps({"tool": "look", "arguments": arguments}, indent=indent, ensure_ascii=ascii_only)

    assert json.loads(find_call(f"So: {said}. Done", LOOK).call.arguments) == arguments


@given(st.text() | st.text(alphabet="{}\"'\\:, tolargs[]look"))
def test_any_text_is_a_call_or_a_complaint(text):
    try:
        name = find_call(text, LOOK).call.name
    except NoCall as exc:
        name = "look" if str(exc) else ""

    assert name == "look"
