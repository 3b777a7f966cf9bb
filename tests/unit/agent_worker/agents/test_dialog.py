import pytest
import structlog

from agent_worker.llm.contract import LLMReply, LLMToolCall
from maruntime.domain.commit import CallState, End, EndKind
from maruntime.domain.run import Usage, WaitingFor
from maruntime.domain.template import AgentKind
from maruntime.testing.builders import assistant, user
from tests.unit.agent_worker.builders import (
    FINAL,
    REASONING,
    REPORT,
    Scene,
    call,
    final,
    reasoning,
    reply,
    shipped_tool,
)

ANSWER = shipped_tool("answer")
DIALOG = {"kind": AgentKind.DIALOG, "tools": (REASONING, REPORT, ANSWER, FINAL)}
WAITING = End(EndKind.WAITING, waiting_for=WaitingFor.CLARIFICATION)


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


def answer(text):
    return call("answer", reasoning="r", answer=text)


async def test_an_answer_hands_the_turn_back():
    scene = Scene(reply(reasoning()), reply(answer("So far: 3.")), **DIALOG)

    (t4,) = await scene.run()

    assert t4.end == WAITING
    assert t4.messages == (assistant("So far: 3."),)
    assert t4.events[-1].payload["text"] == scene.line.content == "So far: 3."
    assert t4.counters["clarifications"] == 1
    assert [(row.tool_name, row.state) for row in t4.calls] == [
        ("reasoning", CallState.DONE),
        ("answer", CallState.DONE),
    ]


async def test_the_next_message_goes_on_with_the_run():
    transcript = (user(), assistant("So far: 3."), user("Go on"))
    scene = Scene(reply(reasoning()), reply(final("All.")), transcript=transcript, last_commit=1, step_no=1, **DIALOG)

    (t4,) = await scene.run()

    assert scene.llm.read(0) == [message.to_openai() for message in transcript]
    assert t4.end == End(EndKind.COMPLETED)


async def test_plain_text_hands_the_turn_back_too():
    scene = Scene(reply(reasoning()), reply(content=" Shall I? ", finish_reason="stop"), **DIALOG)

    (t4,) = await scene.run()

    assert (t4.end, t4.messages) == (WAITING, (assistant("Shall I?"),))


async def test_plain_text_without_the_tool_is_the_final_answer():
    scene = Scene(
        reply(reasoning()),
        reply(content="Done.", finish_reason="stop"),
        kind=AgentKind.DIALOG,
        tools=(REASONING, FINAL),
    )

    (t4,) = await scene.run()

    assert t4.end == End(EndKind.COMPLETED)


@pytest.mark.parametrize(
    ("arguments", "finish_reason"), [('{"answer": "Half of', "length"), ('{"answer": "Half of", "x', "stop")]
)
async def test_an_answer_that_the_client_has_read_is_handed_over_as_it_is(arguments, finish_reason):
    broken = LLMReply("", (LLMToolCall("answer", arguments),), finish_reason, Usage(), "m")
    scene = Scene(reply(reasoning()), broken, **DIALOG)

    (t4,) = await scene.run()

    assert (t4.end, t4.messages, scene.line.content) == (WAITING, (assistant("Half of"),), "Half of")
