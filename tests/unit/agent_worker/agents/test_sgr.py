import json

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.llm.contract import LLMReply
from agent_worker.llm.errors import LLMMalformed, LLMRateLimited, LLMRefused, LLMUnavailable, UnknownEndpoint
from maruntime.domain.commit import EndKind
from maruntime.domain.event import EventType
from maruntime.domain.message import Role
from maruntime.domain.run import Usage
from maruntime.domain.template import AgentKind, LLMFallback
from maruntime.testing.builders import assistant
from tests.unit.agent_worker.builders import (
    CLARIFICATION,
    FINAL,
    REASONING,
    REPORT,
    Scene,
    clarification,
    deltas_of,
    every,
    final,
    reply,
    report,
)

SGR = {"kind": AgentKind.SGR}


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


def step(call, *, thoughts=("one", "two"), situation="here", finish_reason="stop"):
    said = {
        "reasoning_steps": list(thoughts),
        "current_situation": situation,
        "plan_status": "p",
        "enough_data": True,
        "remaining_steps": [],
        "task_completed": False,
        "function": {"tool": call.name, **json.loads(call.arguments)},
    }
    return LLMReply(orjson.dumps(said).decode(), (), finish_reason, Usage(10, 2, 1), "m")


def said(text, finish_reason="stop"):
    return LLMReply(text, (), finish_reason, Usage(1, 1), "m")


async def test_a_step_is_one_call_with_a_schema_and_no_tools():
    scene = Scene(step(report()), step(final("Here.")), tools=(REASONING, CLARIFICATION, REPORT, FINAL), **SGR)

    t1, _, t4 = await scene.run()

    request = scene.llm.requests[0]
    assert (request.tools, request.tool_choice) == ((), None)
    branches = request.response_format["json_schema"]["schema"]["properties"]["function"]["anyOf"]
    assert [branch["properties"]["tool"]["const"] for branch in branches] == [
        "clarification",
        "create_report",
        "final_answer",
    ]
    assert t1.events[0].payload["text"] == "one\ntwo\nhere"
    assert t1.calls[0].arguments == orjson.loads(report().arguments)
    assert (t1.messages[0].role, t1.messages[0].content) == (Role.ASSISTANT, "one\ntwo\nhere")
    assert t4.messages == (assistant("Here."),)
    assert t4.events[0].payload["text"] == "one\ntwo\nhere"
    assert t4.end.kind is EndKind.COMPLETED


@settings(deadline=None, max_examples=60)
@given(answer=st.text(min_size=1), size=st.integers(1, 40))
async def test_the_answer_streams_out_of_the_form_in_any_slices(answer, size):
    """The text that a client read is the text that is stored."""
    scene = Scene(step(final(answer)), cut=every(size), **SGR)

    (t4,) = await scene.run()

    assert scene.line.content == answer.replace("\0", "\ufffd") == t4.messages[0].content
    assert "".join(delta.reasoning for delta in scene.line.deltas) == "one\ntwo\nhere"


async def test_other_tools_do_not_stream():
    scene = Scene(step(clarification("Which?")), **SGR)

    (t4,) = await scene.run()

    assert scene.line.content == ""
    assert t4.end.kind is EndKind.WAITING


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (said("I think so."), "not valid JSON"),
        (said('{"reasoning_steps": ["a'), "not valid JSON"),
        (said("{}"), "required property"),
        (said(""), "not valid JSON"),
    ],
)
async def test_an_unusable_form_is_told_and_asked_for_again(first, told):
    scene = Scene(first, step(final("A")), **SGR)

    rejected, t4 = await scene.run()

    assert [event.type for event in rejected.events if event.type is EventType.ANSWER_REJECTED]
    assert rejected.counters["invalid_answers"] == 1
    assert told in scene.llm.read(1)[-1]["content"]
    assert t4.end.kind is EndKind.COMPLETED


async def test_unusable_forms_are_bounded():
    scene = Scene(*[said("no")] * 3, **SGR)

    commits = await scene.run()

    assert commits[-1].end.failure.code == "invalid_answers"


async def test_arguments_that_do_not_fit_are_answered_in_the_transcript():
    bad = step(report())
    bad = LLMReply(bad.content.replace('"high"', '"sure"'), (), "stop", Usage(), "m")
    scene = Scene(bad, step(final()), **SGR)

    commits = await scene.run()

    assert "do not fit the schema of create_report" in commits[0].messages[1].content


async def test_an_answer_that_was_cut_off_ends_as_cut():
    whole = step(final("A long answer")).content
    scene = Scene(said(whole[: whole.index(" answer")], "length"), **SGR)

    (t4,) = await scene.run()

    assert t4.messages == (assistant("A long"),)
    assert t4.events[-1].payload["finish_reason"] == "length"


async def test_a_whole_answer_in_a_broken_form_stands():
    """What a client has read is not unsaid."""
    text = step(final("Whole.", status="failed")).content[:-1]
    scene = Scene(said(text), **SGR)

    (t4,) = await scene.run()

    assert t4.messages == (assistant("Whole."),)
    assert t4.events[-1].payload["status"] == "failed"


# --- fallbacks


def falling_back(scene, *endpoints):
    policy = scene.assignment.template.body.llm
    fallbacks = tuple(LLMFallback(endpoint=name, model=f"{name}-model") for name in endpoints)
    scene.mind._targets = (LLMFallback(endpoint=policy.endpoint), *fallbacks)
    return scene


@pytest.mark.parametrize("error", [LLMUnavailable(), LLMRateLimited(), LLMMalformed(), UnknownEndpoint()])
async def test_another_endpoint_is_asked_when_one_does_not_work(error):
    scene = falling_back(Scene(error, LLMUnavailable(), reply(final("A"))), "b", "c")

    (t4,) = await scene.run()

    assert [(request.endpoint, request.model) for request in scene.llm.requests] == [
        ("main", None),
        ("b", "b-model"),
        ("c", "c-model"),
    ]
    assert t4.messages == (assistant("A"),)
    assert scene.mind.calls_made == 1


async def test_a_refusal_is_final():
    scene = falling_back(Scene(LLMRefused("No.")), "b")

    (failed,) = await scene.run()

    assert len(scene.llm.requests) == 1
    assert failed.end.failure.code == "llm_refused"


async def test_a_fallback_that_this_worker_does_not_know_hides_no_error():
    scene = falling_back(Scene(LLMRateLimited(), UnknownEndpoint()), "b")

    (failed,) = await scene.run()

    assert failed.end.failure.code == "llm_rate_limited"


async def test_text_of_an_endpoint_that_failed_is_void():
    scene = falling_back(Scene(), "b")

    class Breaking:
        async def complete(self, request, on_delta, *, on_restart):
            answer = final("Void") if request.endpoint == "main" else final("Real")
            for delta in deltas_of(reply(answer), every(9)):
                on_delta(delta)
            if request.endpoint == "main":
                raise LLMMalformed
            return reply(answer)

    scene.mind._llm = Breaking()

    (t4,) = await scene.run()

    assert [(delta.offset, delta.content) for delta in scene.line.deltas] == [(0, "Void"), (0, "Real")]
    assert t4.messages == (assistant("Real"),)
