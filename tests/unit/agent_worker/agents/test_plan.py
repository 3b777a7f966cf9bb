import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.agents.contract import Decision, MadeCall, Reasoned
from agent_worker.agents.plan import Answer, Calls, Complaint, plan, reasoned_rows
from agent_worker.llm.contract import LLMToolCall
from maruntime.domain.commit import CallState
from maruntime.domain.message import Role
from maruntime.domain.run import Usage
from tests.unit.agent_worker.builders import (
    CLARIFICATION,
    FINAL,
    LOOK,
    PAY,
    REASONING,
    REPORT,
    call,
    clarification,
    final,
    report,
)

TOOLS = {tool.name: tool for tool in (CLARIFICATION, REPORT, LOOK, PAY, FINAL)}


def planned(*calls, text="", finish_reason="tool_calls", answer="", answer_is_whole=False, first_idx=0):
    decision = Decision(text, calls, finish_reason, Usage(), answer, answer_is_whole)
    return plan(decision, TOOLS, step_no=4, first_idx=first_idx)


def states(found):
    return [(row.tool_name, row.state) for row in found.rows]


def test_free_text_without_a_call_is_the_answer():
    assert planned(text="  Hello \n", finish_reason="stop") == Answer("Hello", "stop")


def test_free_text_that_was_cut_says_so():
    assert planned(text="Hel", finish_reason="length") == Answer("Hel", "length")


def test_a_final_answer_that_was_cut_is_kept_as_far_as_it_could_be_read():
    cut = LLMToolCall("final_answer", '{"answer": "Half of')

    assert planned(cut, finish_reason="length", answer="Half of") == Answer("Half of", "length")


def test_an_answer_that_is_whole_counts_whatever_is_wrong_around_it():
    broken = call("final_answer", answer="A")

    assert planned(broken, answer="A", answer_is_whole=True) == Answer("A", "stop")
    assert isinstance(planned(broken, answer="A"), Calls)
    assert isinstance(planned(report(), broken, answer="A", answer_is_whole=True), Calls)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ('{"answer": "A", "status": "failed"}', "failed"),
        ('{"status" :\n"failed", "answer": "A", ', "failed"),
        ('{"answer": "A", "status": "completed"}', "completed"),
        ('{"answer": "A", "status": "fail', "completed"),
        ('{"answer": "A"', "completed"),
        ('{"answer": "A", "reasoning": "\\"status\\": \\"failed\\""}', "completed"),
    ],
)
def test_an_invalid_answer_that_is_whole_keeps_its_own_word_on_success(arguments, status):
    found = planned(LLMToolCall("final_answer", arguments), answer="A", answer_is_whole=True)

    assert found == Answer("A", "stop", status)


def test_a_call_that_was_cut_before_its_answer_is_a_problem():
    found = planned(LLMToolCall("final_answer", '{"reasoning": "beca'), finish_reason="length")

    assert isinstance(found, Calls)
    assert found.rows == ()
    assert len(found.rejected) == 1


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_answer_is_complained_about(text):
    assert planned(text=text, finish_reason="stop") == Complaint("Your answer was empty. Call one of the tools.")


def test_a_valid_call_becomes_a_row_and_stands_in_the_transcript():
    found = planned(report("T", "x"), text=" thinking ", first_idx=2)

    (row,) = found.rows
    assert (row.step_no, row.call_idx, row.tool_name, row.tool_version_id) == (
        4,
        2,
        "create_report",
        "toolv_create_report",
    )
    assert row.arguments["title"] == "T"
    (message,) = found.messages
    assert (message.role, message.content) == (Role.ASSISTANT, "thinking")
    assert [(ref.id, ref.function.name, ref.function.arguments) for ref in message.tool_calls] == [
        (row.call_id, "create_report", report("T", "x").arguments)
    ]
    assert found.rejected == ()


def test_call_ids_are_ours():
    found = planned(call("look"), call("look"), call("nothing"))

    ids = [ref.id for ref in found.messages[0].tool_calls]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("call_[0-9a-z]{16}", call_id) for call_id in ids)


def test_an_unknown_tool_is_answered_by_the_names_that_are_offered():
    found = planned(call("search"))

    assert found.rows == ()
    assert found.rejected == (
        "There is no tool 'search' now. Use one of: clarification, create_report, look, pay, final_answer.",
    )
    asked, told = found.messages
    assert (asked.tool_calls[0].function.name, asked.tool_calls[0].function.arguments) == ("search", "{}")
    assert (told.tool_call_id, told.content) == (asked.tool_calls[0].id, f"Error: {found.rejected[0]}")


@pytest.mark.parametrize("name", ["functions.search", "final answer", "", "x" * 500, "поиск", "a\x00\n"])
def test_a_name_that_providers_refuse_is_not_put_into_the_transcript(name):
    """The next request carries the history: a refused one would fail the run instead of telling the model."""
    found = planned(LLMToolCall(name, "{}"))

    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", found.messages[0].tool_calls[0].function.name)
    assert len(found.rejected[0]) < 300
    assert "\x00" not in found.rejected[0]


def test_malformed_arguments_are_told_and_not_put_into_the_transcript():
    found = planned(LLMToolCall("create_report", '{"title": "T'))

    assert found.messages[0].tool_calls[0].function.arguments == "{}"
    assert found.messages[1].content.startswith("Error: The arguments are not valid JSON")
    assert '{"title": "T' in found.messages[1].content


def test_arguments_against_the_schema_are_told():
    found = planned(call("final_answer", answer="A"))

    assert found.rows == ()
    assert "'status' is a required property" in found.rejected[0]


def test_valid_calls_go_on_beside_invalid_ones():
    found = planned(call("nothing"), call("look"), LLMToolCall("pay", "["), report())

    assert states(found) == [("look", CallState.PLANNED), ("create_report", CallState.PLANNED)]
    assert [row.call_idx for row in found.rows] == [1, 3]
    assert [ref.function.name for ref in found.messages[0].tool_calls] == ["nothing", "look", "pay", "create_report"]
    answered = [message.tool_call_id for message in found.messages[1:]]
    refs = found.messages[0].tool_calls
    assert answered == [refs[0].id, refs[2].id]
    assert len(found.rejected) == 2


@pytest.mark.parametrize("ending", [final(), clarification("Which?")])
def test_a_call_that_ends_the_turn_leaves_no_tool_call_in_the_transcript(ending):
    found = planned(ending)

    assert found.messages == ()
    assert states(found) == [(ending.name, CallState.PLANNED)]


def test_calls_beside_the_end_of_the_turn_stand_in_the_transcript():
    found = planned(report(), final(), call("look"))

    assert [ref.function.name for ref in found.messages[0].tool_calls] == ["create_report", "look"]
    assert [row.tool_name for row in found.rows] == ["create_report", "final_answer", "look"]


def test_the_first_effect_is_announced_with_the_plan_and_later_ones_are_not():
    assert states(planned(call("pay"), call("pay"))) == [("pay", CallState.STARTED), ("pay", CallState.PLANNED)]


def test_a_pure_call_is_not_announced_nor_is_the_effect_behind_it():
    assert states(planned(call("look"), call("pay"))) == [("look", CallState.PLANNED), ("pay", CallState.PLANNED)]


def test_the_first_valid_call_counts_as_the_first():
    assert states(planned(call("nothing"), call("pay"))) == [("pay", CallState.STARTED)]


def test_what_cannot_be_stored_is_replaced():
    found = planned(
        LLMToolCall("create_report", report("a\x00b").arguments), LLMToolCall("lo\x00ok", "{\x00"), text="t\x00"
    )

    assert found.rows[0].arguments["title"] == "a�b"
    assert found.messages[0].content == "t�"
    assert [ref.function.name for ref in found.messages[0].tool_calls] == ["create_report", "lo_ok"]
    assert "\\x00" not in repr(found.messages)
    assert planned(text="a\x00", finish_reason="stop") == Answer("a�", "stop")


def test_the_reasoning_is_a_finished_call():
    made = MadeCall(REASONING, "call_r", {"current_situation": "here"})

    (row,) = reasoned_rows(Reasoned(calls=(made,)), 4)

    assert (row.step_no, row.call_idx, row.call_id, row.state, row.result) == (4, 0, "call_r", CallState.DONE, "")
    assert row.arguments == made.arguments


@given(
    calls=st.lists(
        st.one_of(
            st.just(final()),
            st.just(report()),
            st.just(call("pay")),
            st.builds(LLMToolCall, st.text() | st.sampled_from(sorted(TOOLS)), st.text()),
        )
    ),
    text=st.text(),
    finish_reason=st.sampled_from(["stop", "tool_calls", "length", "content_filter", ""]),
    answer=st.text(),
)
def test_whatever_the_model_says_every_call_is_made_or_answered(calls, text, finish_reason, answer):
    found = planned(*calls, text=text, finish_reason=finish_reason, answer=answer)

    if isinstance(found, Calls):
        refs = {ref.id for message in found.messages for ref in message.tool_calls}
        told = {message.tool_call_id for message in found.messages if message.role is Role.TOOL}
        made = {row.call_id for row in found.rows if row.tool_name not in ("final_answer", "clarification")}
        assert refs == told | made
        assert not told & made
        assert len(found.rows) + len(found.rejected) == len(calls)
    elif isinstance(found, Complaint):
        assert not calls
    else:
        assert found.text
