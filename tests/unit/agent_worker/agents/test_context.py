from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent_worker.agents.context import build_messages, complete
from maruntime.domain.message import Message, Role
from maruntime.testing.builders import a_tool, assistant, user
from tests.unit.agent_worker.builders import a_worker_template, calling, tool_says

NOW = datetime(2026, 3, 4, tzinfo=UTC)
NO_RESULT = "[no result: the run ended before the tool was finished]"


def asks(*ids):
    return Message(role=Role.ASSISTANT, tool_calls=tuple(calling(call_id, "look") for call_id in ids))


def test_a_finished_transcript_is_left_as_it_is():
    transcript = [user(), asks("a", "b"), tool_says("b", "2"), tool_says("a", "1"), assistant(), user()]

    assert complete(transcript) == transcript


def test_a_call_without_a_result_is_closed_before_anybody_speaks():
    transcript = [user(), asks("a", "b"), tool_says("a", "1"), user("And?")]

    assert complete(transcript) == [*transcript[:3], tool_says("b", NO_RESULT), transcript[3]]


def test_calls_at_the_very_end_are_closed():
    assert complete([asks("a", "b")]) == [asks("a", "b"), tool_says("a", NO_RESULT), tool_says("b", NO_RESULT)]


@given(
    st.lists(
        st.one_of(
            st.just("user"),
            st.tuples(st.just("asks"), st.integers(1, 3), st.lists(st.integers(0, 2), unique=True)),
        )
    )
)
def test_every_call_has_exactly_one_result_before_anybody_speaks_and_the_order_is_kept(story):
    """Providers refuse a history with a call that has no result."""
    transcript = []
    for number, part in enumerate(story):
        if part == "user":
            transcript.append(user(str(number)))
        else:
            ids = [f"{number}-{call}" for call in range(part[1])]
            transcript.append(asks(*ids))
            transcript += [tool_says(ids[place], "r") for place in part[2] if place < len(ids)]

    whole = complete(transcript)

    assert [message for message in whole if message.content != NO_RESULT] == transcript
    open_calls = set()
    for message in whole:
        if message.role is Role.TOOL:
            open_calls.remove(message.tool_call_id)
        else:
            assert not open_calls
            open_calls = {ref.id for ref in message.tool_calls}
    assert not open_calls


def test_the_prompt_comes_first_and_the_complaint_last():
    body = a_worker_template("look").body

    messages = build_messages(body, [a_tool("look")], [user("Hi"), asks("a")], "Wrong.", NOW)

    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "user"]
    assert "- look: Looks." in messages[0]["content"]
    assert messages[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }
    assert messages[-1] == {"role": "user", "content": "[platform] Wrong."}


def test_without_a_complaint_nothing_is_added():
    messages = build_messages(a_worker_template("look").body, [], [user("Hi")], None, NOW)

    assert messages[1:] == ({"role": "user", "content": "Hi"},)
