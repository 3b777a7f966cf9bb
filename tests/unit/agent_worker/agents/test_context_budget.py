import orjson
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.agents.budget import estimated_tokens, fitted, message_tokens
from agent_worker.agents.context import build_messages, without_tool_roles
from maruntime.domain.message import Message, Role
from maruntime.domain.template import AgentKind
from maruntime.testing.builders import a_tool, assistant, user
from tests.unit.agent_worker.agents.test_context import NOW
from tests.unit.agent_worker.builders import a_worker_template, calling, tool_says

SYSTEM = {"role": "system", "content": "You are."}


def total(messages):
    return sum(map(message_tokens, messages))


def story(*parts):
    return [SYSTEM, *(part.to_openai() for part in parts)]


def asks(*ids, arguments="{}", content=None):
    calls = tuple(calling(call_id, "look", arguments) for call_id in ids)
    return Message(role=Role.ASSISTANT, content=content, tool_calls=calls)


def assert_paired(messages):
    open_calls = set()
    for message in messages:
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
        else:
            assert not open_calls
            open_calls = {call["id"] for call in message.get("tool_calls", ())}
            for call in message.get("tool_calls", ()):
                assert isinstance(orjson.loads(call["function"]["arguments"]), dict)
    assert not open_calls


def test_the_estimate_is_on_the_careful_side():
    assert estimated_tokens("") == 0
    assert estimated_tokens("abcdef") == 2
    assert estimated_tokens("привет") == 3
    assert estimated_tokens("你好😀") == 3


def test_what_fits_is_left_as_it_is():
    messages = story(user(), asks("a"), tool_says("a", "x" * 900), assistant())

    assert fitted(messages, total(messages)) == messages


def test_the_oldest_results_give_way_first_and_keep_their_artifacts():
    messages = story(
        user(), asks("a"), tool_says("a", "stored art_01AB " + "x" * 3000), asks("b"), tool_says("b", "y" * 3000)
    )

    short = fitted(messages, total(messages) - 500)

    assert short[3]["content"].startswith("[shortened from 3016 characters; art_01AB] stored art_01AB xxx")
    assert [message for place, message in enumerate(short) if place != 3] == [
        message for place, message in enumerate(messages) if place != 3
    ]


def test_old_exchanges_become_one_summary():
    messages = story(
        *(part for number in range(40) for part in (user(f"Question {number} " + "q" * 200), assistant("a" * 200))),
        user("And now?"),
    )

    short = fitted(messages, 1000)

    assert total(short) <= 1000
    assert short[0] == SYSTEM
    assert short[1]["role"] == "user"
    assert short[1]["content"].startswith("[earlier: ")
    assert "- assistant: aaa" in short[1]["content"]
    assert short[2:] == messages[len(messages) - len(short) + 2 :]


def test_a_single_message_over_the_budget_is_cut_in_the_middle():
    messages = story(user("begin " + "x" * 30_000 + " end"))

    short = fitted(messages, 500)

    assert total(short) <= 500
    assert short[0] == SYSTEM
    assert short[1]["content"].startswith("begin xxx")
    assert short[1]["content"].endswith("xxx end")
    assert "characters left out" in short[1]["content"]


def test_the_complaint_does_not_take_the_place_of_the_users_message():
    messages = story(user("old " * 500), assistant("x" * 900), user("latest"), asks("a"), tool_says("a", "y" * 9000))
    messages.append({"role": "user", "content": "[platform] Wrong."})

    short = fitted(messages, 300)

    assert {"role": "user", "content": "latest"} in short
    assert short[-1]["content"] == "[platform] Wrong."


def test_the_newest_exchange_stays_behind_a_complaint():
    messages = story(
        user("old " * 500), asks("a"), tool_says("a", "x" * 3000), user("latest"), asks("b"), tool_says("b", "newest")
    )
    messages.append({"role": "user", "content": "[platform] Wrong."})

    short = fitted(messages, 300)

    assert short[-4:] == messages[-4:]


_texts = st.integers(0, 4000).map(lambda size: "я слово " * (size // 8)) | st.text(max_size=50)
_parts = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "calls"]), _texts, st.integers(1, 3)), min_size=1, max_size=14
)


@given(_parts, _texts, st.integers(400, 6000), st.booleans())
def test_any_story_fits_with_calls_and_results_together_and_the_newest_kept(parts, latest, room, is_open):
    said = []
    for number, (kind, text, size) in enumerate(parts):
        if kind == "calls":
            ids = [f"{number}-{place}" for place in range(size)]
            said.append(asks(*ids, arguments=orjson.dumps({"a": text}).decode()))
            said += [tool_says(call_id, text) for call_id in ids]
        else:
            said.append(user(text) if kind == "user" else assistant(text))
    said.append(user(f"newest {latest}"))
    if is_open:
        said += [asks("last"), tool_says("last", latest)]
    messages = story(*said)

    short = fitted(messages, room)

    assert total(short) <= room
    assert_paired(short)
    assert short[0] == SYSTEM
    assert [message for message in short if message["role"] == "user"][-1]["content"].startswith("newest ")
    assert fitted(messages, room) == short
    assert fitted(short, room) == short


@given(_parts, st.sampled_from([AgentKind.TOOL_CALLING, AgentKind.TEXT]))
def test_the_prompt_holds_the_templates_budget(parts, kind):
    body = a_worker_template("look", kind=kind, context_tokens=3000).body
    transcript = [user(text) for _, text, _ in parts]

    messages = build_messages(body, [a_tool()], transcript, None, NOW)

    assert total(messages) <= 3000


def test_turns_alternate_for_models_that_know_no_tools():
    messages = story(user("Hi"), asks("a", "b", content="So"), tool_says("a", "1"), tool_says("b", "2"), user("And?"))

    assert without_tool_roles(messages) == [
        SYSTEM,
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": 'So\n{"tool": "look", "arguments": {}}\n{"tool": "look", "arguments": {}}',
        },
        {"role": "user", "content": "[result of look]\n1\n\n[result of look]\n2\n\nAnd?"},
    ]
