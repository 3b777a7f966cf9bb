import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.agents.context import build_messages
from maruntime.domain.commit import End, EndKind
from maruntime.domain.message import Message, Role
from maruntime.domain.template import AgentKind
from maruntime.testing.builders import a_tool, assistant, user
from tests.unit.agent_worker.agents.test_context import NOW
from tests.unit.agent_worker.builders import Scene, a_worker_template, every, reply

PASS = {"kind": AgentKind.PASSTHROUGH, "tools": ()}


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


async def test_messages_go_through_as_they_are():
    transcript = (Message(role=Role.SYSTEM, content="Be brief."), user("Hi"), assistant(" Yes? "), user("Go"))
    scene = Scene(reply(content="Gone.", finish_reason="stop"), transcript=transcript, **PASS)

    (t4,) = await scene.run()

    (request,) = scene.llm.requests
    assert list(request.messages) == [message.to_openai() for message in transcript]
    assert (request.tools, request.tool_choice, request.response_format) == ((), None, None)
    assert (t4.messages, t4.end) == ((assistant("Gone."),), End(EndKind.COMPLETED))


@settings(deadline=None, max_examples=40)
@given(text=st.text(), size=st.integers(1, 9))
async def test_the_text_streams_as_it_is(text, size):
    scene = Scene(reply(content=text, finish_reason="stop"), cut=every(size), **PASS)

    (t4,) = await scene.run()

    assert scene.line.content == t4.messages[0].content == text.replace("\0", "\ufffd")


@pytest.mark.parametrize(
    ("finish_reason", "told"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "stop")],
)
async def test_the_finish_reason_goes_through(finish_reason, told):
    scene = Scene(reply(content="a", finish_reason=finish_reason), **PASS)

    (t4,) = await scene.run()

    assert t4.events[-1].payload["finish_reason"] == told


def test_only_the_templates_own_prompt_comes_before_the_messages():
    body = a_worker_template(kind=AgentKind.PASSTHROUGH).body

    with_prompt = build_messages(body.model_copy(update={"system_prompt": "At $date."}), [], [user()], None, NOW)

    assert build_messages(body, [], [user()], None, NOW) == (user().to_openai(),)
    assert with_prompt == ({"role": "system", "content": "At 2026-03-04."}, user().to_openai())


def test_a_templates_own_prompt_has_the_tools_and_keeps_other_dollars():
    body = a_worker_template("look").body.model_copy(update={"system_prompt": "$date $5 ${who}\n$tools"})

    messages = build_messages(body, [a_tool("pay"), a_tool("look")], [user()], None, NOW)

    assert messages[0]["content"] == "2026-03-04 $5 ${who}\n- pay: Looks.\n- look: Looks."
