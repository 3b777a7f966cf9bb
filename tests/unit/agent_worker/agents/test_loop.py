import asyncio
import itertools
import json
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.agents.progress import Counters
from agent_worker.llm.contract import LLMToolCall
from agent_worker.llm.errors import LLMRefused, LLMUnavailable
from agent_worker.tools.contract import ToolResult
from maruntime.domain.commit import Artifact, CallState, Commit, End, EndKind, ToolCallRow, Verdict
from maruntime.domain.event import EventType, NewEvent
from maruntime.domain.message import Message, Role
from maruntime.domain.run import Failure, Usage, WaitingFor
from maruntime.domain.template import AgentKind
from maruntime.domain.tool import EffectClass
from maruntime.errors import Fenced
from maruntime.testing.builders import a_call, a_tool, assistant, user
from maruntime.wire.codec import worker_frame_size
from tests.unit.agent_worker.builders import (
    CLARIFICATION,
    FINAL,
    LOOK,
    PAY,
    REASONING,
    REPORT,
    RUN,
    Scene,
    a_worker_template,
    call,
    calling,
    clarification,
    deltas_of,
    every,
    final,
    reasoning,
    reply,
    report,
    tool_says,
)

SGR = {"kind": AgentKind.SGR_TOOL_CALLING, "tools": (REASONING, CLARIFICATION, REPORT, FINAL)}


@pytest.fixture(autouse=True)
def logs():
    with structlog.testing.capture_logs() as entries:
        yield entries


def counters(**said):
    return {**Counters().to_json(), **said}


def ended(commits):
    """The end of the last commit; no other one has an end."""
    assert all(commit.end is None for commit in commits[:-1])
    return commits[-1].end


def failure_code(commits):
    end = ended(commits)
    assert end.kind is EndKind.FAILED
    assert commits[-1].messages == ()
    assert commits[-1].events == (
        NewEvent(EventType.RUN_FAILED, {"code": end.failure.code, "message": end.failure.message}),
    )
    return end.failure.code


class Till:
    """An effect that counts."""

    def __init__(self, scene_order=None):
        self.paid = []
        self.order = scene_order

    async def __call__(self, arguments, context):
        self.paid.append(arguments)
        if self.order is not None:
            self.order.append("effect")
        return ToolResult("paid")


# --- ToolCalling


async def test_a_report_and_an_answer_are_three_commits():
    """Durability, section 3: T1 after the model, T3 after the tool, T4 at the end, each whole."""
    scene = Scene(reply(report("T", "one two"), content=" look "), reply(final("Here it is."), usage=Usage(5, 1)))

    t1, t3, t4 = await scene.run()

    call_id = t1.calls[0].call_id
    said = report("T", "one two").arguments
    assert t1 == Commit(
        run=RUN,
        commit_no=1,
        step_no=1,
        counters=counters(tool_calls=1, calls={"create_report": 1}, llm_calls=1, tokens=12),
        messages=(Message(role=Role.ASSISTANT, content="look", tool_calls=(calling(call_id, "create_report", said),)),),
        calls=(
            ToolCallRow(
                1,
                0,
                call_id,
                "create_report",
                REPORT.version_id,
                EffectClass.PURE,
                CallState.PLANNED,
                orjson.loads(said),
            ),
        ),
        events=(
            NewEvent(EventType.STEP_REASONED, {"step": 1, "text": "look", "tools": scene.offered}),
            NewEvent(EventType.TOOL_CALL_PLANNED, {"step": 1, "tool": "create_report", "call_id": call_id}),
        ),
        usage=Usage(10, 2, 1),
    )
    (artifact,) = t3.artifacts
    text = f'The report "T" (2 words) is stored as artifact {artifact.id}.'
    assert t3 == Commit(
        run=RUN,
        commit_no=2,
        step_no=1,
        counters=counters(tool_calls=1, calls={"create_report": 1}, llm_calls=1, tokens=12),
        messages=(tool_says(call_id, text),),
        calls=(replace(t1.calls[0], state=CallState.DONE, result=text, artifact_id=artifact.id),),
        events=(
            NewEvent(
                EventType.TOOL_CALL_FINISHED,
                {
                    "step": 1,
                    "tool": "create_report",
                    "call_id": call_id,
                    "error_code": None,
                    "artifact_id": artifact.id,
                    "preview": text,
                },
            ),
        ),
        artifacts=(artifact,),
    )
    (answer,) = t4.calls
    assert t4 == Commit(
        run=RUN,
        commit_no=3,
        step_no=2,
        counters=counters(tool_calls=1, calls={"create_report": 1}, llm_calls=2, tokens=18),
        messages=(assistant("Here it is."),),
        calls=(answer,),
        events=(
            NewEvent(EventType.STEP_REASONED, {"step": 2, "text": "", "tools": scene.offered}),
            NewEvent(EventType.RUN_COMPLETED, {"text": "Here it is.", "finish_reason": "stop", "status": "completed"}),
        ),
        usage=Usage(5, 1),
        end=End(EndKind.COMPLETED),
    )
    assert (answer.step_no, answer.state, answer.result) == (2, CallState.DONE, ""), "the message has the text"


async def test_the_second_request_carries_the_result_of_the_first():
    scene = Scene(reply(report()), reply(final()))

    commits = await scene.run()

    assert scene.llm.read(0) == [{"role": "user", "content": "Hi"}]
    assert scene.llm.read(1) == [
        message.to_openai() for message in (user(), *commits[0].messages, *commits[1].messages)
    ]
    assert [request.tool_choice for request in scene.llm.requests] == ["required", "required"]
    assert scene.llm.offered(0) == ["clarification", "create_report", "final_answer"]


async def test_the_clients_parameters_and_the_trace_go_to_the_model():
    scene = Scene(reply(final()), context={"llm_parameters": {"temperature": 0.5}}, trace={"x-test-run": "7"})

    await scene.run()

    (request,) = scene.llm.requests
    assert (request.parameters, request.headers, request.endpoint, request.model) == (
        {"temperature": 0.5},
        {"x-test-run": "7"},
        "main",
        None,
    )


async def test_tools_outside_the_template_are_not_offered():
    """An assignment may carry more: the tools of open calls."""
    scene = Scene(reply(final()), template=a_worker_template("final_answer"))

    await scene.run()

    assert scene.llm.offered(0) == ["final_answer"]


async def test_an_answer_that_says_that_the_task_failed_is_told_as_such():
    commits = await Scene(reply(final("Cannot.", status="failed"))).run()

    assert commits[0].events[-1].payload == {"text": "Cannot.", "finish_reason": "stop", "status": "failed"}


async def test_two_calls_of_one_step_are_made_in_order():
    scene = Scene(reply(report("A"), report("B")), reply(final()))

    commits = await scene.run()

    assert [commit.commit_no for commit in commits] == [1, 2, 3, 4]
    assert [commit.artifacts[0].name for commit in commits[1:3]] == ["A", "B"]
    assert commits[0].counters["tool_calls"] == 2


async def test_a_run_that_goes_on_numbers_its_commits_and_steps_on():
    commits = await Scene(reply(final()), last_commit=7, step_no=3).run()

    assert [(commit.commit_no, commit.step_no) for commit in commits] == [(8, 4)]


# --- SGR


async def test_a_step_with_reasoning_is_two_calls_and_one_commit():
    scene = Scene(
        reply(reasoning("one", "two", situation="here"), usage=Usage(3, 1)),
        reply(report(), usage=Usage(4, 2)),
        reply(reasoning()),
        reply(final("A")),
        **SGR,
    )

    t1, _, t4 = await scene.run()

    assert [scene.llm.offered(number) for number in range(2)] == [
        ["reasoning"],
        ["clarification", "create_report", "final_answer"],
    ]
    thought, action = t1.calls
    assert (thought.tool_name, thought.call_idx, thought.state) == ("reasoning", 0, CallState.DONE)
    assert thought.arguments == orjson.loads(reasoning("one", "two", situation="here").arguments)
    assert (action.tool_name, action.call_idx, action.state) == ("create_report", 1, CallState.PLANNED)
    assert t1.usage == Usage(7, 3)
    assert t1.events[0].payload == {"step": 1, "text": "one\ntwo\nhere", "tools": scene.offered}
    assert [message.role for message in t1.messages] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert scene.llm.read(1) == [message.to_openai() for message in (user(), *t1.messages[:2])]
    assert [row.tool_name for row in t4.calls] == ["reasoning", "final_answer"]
    assert t4.messages == (assistant("A"),)
    assert "".join(delta.reasoning for delta in scene.line.deltas) == "one\ntwo\nherethink\nhere"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (reply(content="I think"), "Call the tool reasoning first"),
        (reply(call("final_answer")), "Call the tool reasoning first"),
        (reply(call("reasoning")), "do not fit the schema of reasoning"),
        (reply(LLMToolCall("reasoning", "{\x00")), "not valid JSON"),
    ],
)
async def test_unusable_reasoning_is_told_and_asked_for_again(first, told):
    scene = Scene(first, reply(reasoning()), reply(final("A")), **SGR)

    rejected, t4 = await scene.run()

    assert (rejected.messages, rejected.calls, rejected.step_no) == ((), (), 1)
    assert [event.type for event in rejected.events] == [EventType.ANSWER_REJECTED]
    assert told in rejected.events[0].payload["problem"]
    assert rejected.counters["invalid_answers"] == 1
    assert "\\x00" not in repr(rejected)
    assert scene.llm.read(1)[-1]["content"].startswith("[platform] ")
    assert told in scene.llm.read(1)[-1]["content"]
    assert ended([rejected, t4]).kind is EndKind.COMPLETED


async def test_the_reasoning_is_kept_when_the_action_behind_it_cannot_be_used():
    scene = Scene(reply(reasoning()), reply(content=""), reply(reasoning()), reply(final()), **SGR)

    rejected, _ = await scene.run()

    assert [row.tool_name for row in rejected.calls] == ["reasoning"]
    assert [message.role for message in rejected.messages] == [Role.ASSISTANT, Role.TOOL]
    assert rejected.usage == Usage(20, 4, 2)


# --- waits and resume


async def test_a_question_parks_the_run():
    """Roadmap stage 6: the transcript ends with what the user is asked."""
    scene = Scene(reply(clarification("Which year?", "Which city?")))

    (t4,) = await scene.run()

    assert t4.end == End(EndKind.WAITING, waiting_for=WaitingFor.CLARIFICATION)
    assert t4.messages == (assistant("Which year?\nWhich city?"),)
    assert t4.events[-1] == NewEvent(
        EventType.RUN_WAITING,
        {"waiting_for": "clarification", "text": "Which year?\nWhich city?", "finish_reason": "stop"},
    )
    assert t4.counters["clarifications"] == 1
    (asked,) = t4.calls
    assert (asked.tool_name, asked.state, asked.result) == ("clarification", CallState.DONE, "")


async def test_an_answered_question_goes_on_from_the_transcript():
    transcript = (user(), assistant("Which year?"), user("2024"))
    context = {"counters": counters(clarifications=1)}
    scene = Scene(reply(final()), transcript=transcript, context=context, last_commit=1, step_no=1)

    (t4,) = await scene.run()

    assert scene.llm.read(0) == [message.to_openai() for message in transcript]
    assert (t4.commit_no, t4.step_no, t4.counters["clarifications"]) == (2, 2, 1)


async def test_enough_questions_remove_the_question():
    context = {"counters": counters(clarifications=2)}
    scene = Scene(reply(clarification("Again?")), reply(final()), limits={"max_clarifications": 2}, context=context)

    commits = await scene.run()

    assert scene.llm.offered(0) == ["create_report", "final_answer"]
    assert "There is no tool 'clarification' now" in commits[0].messages[1].content
    assert ended(commits).kind is EndKind.COMPLETED


async def test_open_calls_are_made_before_the_model_is_asked():
    open_call = a_call("toolv_look", step_no=2)
    asked = []

    async def look(arguments, context):
        asked.append(len(scene.llm.requests))
        return ToolResult("seen")

    transcript = (user(), Message(role=Role.ASSISTANT, tool_calls=(calling(open_call.call_id, "look"),)))
    scene = Scene(
        reply(final()),
        tools=(LOOK, FINAL),
        functions={"look": look},
        open_calls=(open_call,),
        transcript=transcript,
        last_commit=4,
        step_no=2,
    )

    t3, t4 = await scene.run()

    assert asked == [0]
    assert (t3.commit_no, t3.step_no, t3.messages) == (5, 2, (tool_says(open_call.call_id, "seen"),))
    assert scene.llm.read(0)[-1] == {"role": "tool", "content": "seen", "tool_call_id": open_call.call_id}
    assert t4.step_no == 3


async def test_an_open_answer_ends_the_run_without_the_model():
    row = ToolCallRow(
        1,
        1,
        "call_f",
        "final_answer",
        FINAL.version_id,
        EffectClass.PURE,
        CallState.PLANNED,
        orjson.loads(final("Whole.").arguments),
    )
    scene = Scene(open_calls=(row,), last_commit=2, step_no=1)

    (t4,) = await scene.run()

    assert (t4.messages, t4.end) == ((assistant("Whole."),), End(EndKind.COMPLETED))
    assert (t4.calls[0].state, t4.calls[0].result) == (CallState.DONE, "")
    assert scene.llm.requests == []


async def test_an_open_call_whose_tool_is_gone_is_told_to_the_model():
    scene = Scene(reply(final()), open_calls=(a_call("toolv_gone"),), last_commit=1, step_no=1)

    t3, _ = await scene.run()

    assert (t3.calls[0].error_code, t3.calls[0].state) == ("tool_gone", CallState.DONE)


async def test_calls_behind_the_answer_are_not_made_and_closed():
    till = Till()
    scene = Scene(
        reply(final("A"), call("pay"), clarification("?")), tools=(PAY, CLARIFICATION, FINAL), functions={"pay": till}
    )

    (t4,) = await scene.run()

    assert till.paid == []
    assert [(row.tool_name, row.error_code) for row in t4.calls] == [
        ("final_answer", None),
        ("pay", "turn_ended"),
        ("clarification", "turn_ended"),
    ]
    assert all(row.state is CallState.DONE for row in t4.calls)
    pay_id = t4.calls[1].call_id
    asked, closed, answer = t4.messages
    assert [ref.id for ref in asked.tool_calls] == [pay_id]
    assert closed == tool_says(pay_id, "Not run: the turn had ended.")
    assert answer == assistant("A")
    assert t4.end == End(EndKind.COMPLETED)


async def test_an_answer_behind_a_call_ends_the_run_after_it():
    scene = Scene(reply(report(), final("A"), report("late")))

    t1, t3, t4 = await scene.run()

    assert len(t1.calls) == 3
    assert t3.artifacts[0].name == "T"
    assert [(row.tool_name, row.error_code) for row in t4.calls] == [
        ("final_answer", None),
        ("create_report", "turn_ended"),
    ]
    assert t4.messages == (tool_says(t1.calls[2].call_id, "Not run: the turn had ended."), assistant("A"))
    assert len(scene.llm.requests) == 1


# --- bad answers


async def test_malformed_arguments_are_told_and_the_next_answer_counts():
    scene = Scene(reply(LLMToolCall("final_answer", '{"answer": ')), reply(final("A")))

    t1, t4 = await scene.run()

    assert t1.calls == ()
    assert t1.counters["invalid_answers"] == 1
    assert [event.type for event in t1.events] == [EventType.STEP_REASONED, EventType.ANSWER_REJECTED]
    assert scene.llm.read(1)[-1]["role"] == "tool"
    assert "not valid JSON" in scene.llm.read(1)[-1]["content"]
    assert t4.counters["invalid_answers"] == 0


@pytest.mark.parametrize(
    "bad",
    [
        reply(LLMToolCall("final_answer", '{"answer": "Looks fine')),
        reply(call("final_answer", status="completed")),
        reply(LLMToolCall("create_report", '{"answer": "Looks fine", ')),
        reply(call("no_such_tool")),
        reply(LLMToolCall("final_answer", '{"a":' * 400 + "1" + "}" * 400)),
        reply(content=""),
        reply(content="  ", finish_reason="length"),
    ],
)
async def test_unusable_answers_in_a_row_fail_the_run(bad):
    """Issue 2, bad input: told so and retried within a bound; never a made-up success."""
    scene = Scene(bad, bad, bad)

    commits = await scene.run()

    assert len(scene.llm.requests) == 3
    assert failure_code(commits) == "invalid_answers"
    assert [commit.commit_no for commit in commits] == [1, 2, 3, 4]
    assert [commit.counters["invalid_answers"] for commit in commits] == [1, 2, 3, 3]
    assert commits[-1].end.failure.message == "The model gave 3 unusable answers in a row"
    assert all(message.text != "Looks fine" for message in scene.transcript)


async def test_the_bound_counts_over_a_resume():
    context = {"counters": counters(invalid_answers=2, complaint="Wrong.")}
    scene = Scene(reply(content=""), context=context, last_commit=2, step_no=2)

    commits = await scene.run()

    assert failure_code(commits) == "invalid_answers"
    assert scene.llm.read(0)[-1] == {"role": "user", "content": "[platform] Wrong."}


async def test_a_usable_answer_starts_the_count_again_and_forgets_the_complaint():
    bad = reply(content="")
    scene = Scene(bad, bad, reply(report()), bad, bad, reply(final()))

    commits = await scene.run()

    assert ended(commits).kind is EndKind.COMPLETED
    assert all("[platform]" not in str(message) for message in scene.llm.read(3))


async def test_a_step_with_good_and_bad_calls_counts_as_bad_and_goes_on():
    scene = Scene(reply(call("nothing"), report()), reply(final()))

    t1, t3, _ = await scene.run()

    assert t1.counters["invalid_answers"] == 1
    assert t3.artifacts
    assert [event.type for event in t1.events] == [
        EventType.STEP_REASONED,
        EventType.ANSWER_REJECTED,
        EventType.TOOL_CALL_PLANNED,
    ]


async def test_what_cannot_be_stored_reaches_no_commit():
    """Postgres refuses NUL in jsonb: the commit would never be stored."""
    scene = Scene(
        reply(report("a\x00b"), content="thin\x00king"),
        reply(LLMToolCall("create_report", "{\x00"), LLMToolCall("x\x00", "{}")),
        reply(content="answer\x00", finish_reason="stop"),
    )

    commits = await scene.run()

    assert ended(commits).kind is EndKind.COMPLETED
    assert "\\x00" not in repr([*commits, *scene.line.deltas])


# --- limits


async def test_near_the_limit_only_what_ends_the_work_remains_then_the_run_fails():
    scene = Scene(*[reply(report())] * 6, tools=(CLARIFICATION, LOOK, REPORT, FINAL), limits={"max_iterations": 2})

    commits = await scene.run()

    assert [scene.llm.offered(number) for number in range(len(scene.llm.requests))] == [
        ["clarification", "look", "create_report", "final_answer"],
        ["create_report", "final_answer"],
        ["final_answer"],
        ["final_answer"],
        ["final_answer"],
    ]
    assert failure_code(commits) == "max_iterations"
    assert commits[-1].end.failure.message == "No final answer within 2 steps"


async def test_an_answer_is_taken_even_beyond_the_limit():
    scene = Scene(
        reply(report()), reply(report()), reply(report()), reply(final("At last")), limits={"max_iterations": 2}
    )

    commits = await scene.run()

    assert commits[-1].messages == (assistant("At last"),)


async def test_a_run_far_beyond_its_limit_fails_without_asking():
    scene = Scene(step_no=50, last_commit=50, limits={"max_iterations": 2})

    assert failure_code(await scene.run()) == "max_iterations"
    assert scene.llm.requests == []


async def test_a_template_that_leaves_no_tool_fails():
    scene = Scene(tools=(CLARIFICATION,), limits={"max_clarifications": 0})

    assert failure_code(await scene.run()) == "no_tools"


# --- the model fails


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (LLMUnavailable(reason="sk-secret at http://10.0.0.1"), "llm_unavailable", True),
        (LLMRefused(reason="sk-secret"), "llm_refused", False),
    ],
)
async def test_a_model_that_fails_fails_the_run_without_its_secrets(logs, error, code, retryable):
    commits = await Scene(error).run()

    assert failure_code(commits) == code
    assert commits[-1].end.failure == Failure(code, error.message, retryable)
    assert "sk-secret" not in repr(commits)
    assert [entry["reason"] for entry in logs if entry["event"] == "run_failed"] == [error.reason]


async def test_a_failures_message_is_stored_without_what_cannot_be():
    """A provider's words are in it; a NUL there would keep the failure itself from being stored."""
    commits = await Scene(LLMRefused("no\x00\ud800pe")).run()

    assert failure_code(commits) == "llm_refused"
    assert commits[-1].end.failure.message == commits[-1].events[0].payload["message"] == "no\ufffd\ufffdpe"


@pytest.mark.parametrize("said", [report, lambda _, text: final(text)], ids=["T1", "T4"])
async def test_a_step_that_is_too_large_to_be_stored_fails_the_run(said):
    scene = Scene(reply(said("T", "x" * 8 * 1024 * 1024)), cut=lambda text: [text])

    (only,) = commits = await scene.run()

    assert failure_code(commits) == "result_too_large"
    assert only.commit_no == 1
    assert only.calls == ()
    assert worker_frame_size(only) < 1000


async def test_a_result_that_is_too_large_to_be_stored_fails_the_run_behind_its_plan():
    async def look(arguments, context):
        return ToolResult("seen", artifacts=(Artifact("art_1", "a", "text/plain", b"x" * 16 * 1024 * 1024),))

    scene = Scene(reply(call("look")), tools=(LOOK, FINAL), functions={"look": look})

    t1, failed = await scene.run()

    assert failure_code([t1, failed]) == "result_too_large"
    assert failed.artifacts == ()


async def test_a_withheld_answer_fails_the_run():
    scene = Scene(reply(final("Half"), finish_reason="content_filter"))

    assert failure_code(await scene.run()) == "content_filter"


async def test_anything_unexpected_fails_the_run_without_details():
    commits = await Scene(KeyError("sk-secret")).run()

    assert failure_code(commits) == "internal"
    assert commits[-1].end.failure.message == "The agent failed unexpectedly"


# --- tools


@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_a_tool_that_fails_is_read_by_the_model(trouble):
    async def look(arguments, context):
        if trouble == "raises":
            raise RuntimeError("secret")
        await asyncio.Event().wait()

    tool = a_tool("look", effect_class=EffectClass.PURE, timeout=timedelta(milliseconds=1))
    scene = Scene(reply(call("look")), reply(final()), tools=(tool, FINAL), functions={"look": look})

    _, t3, t4 = await scene.run()

    code = {"raises": "tool_failed", "hangs": "tool_timeout"}[trouble]
    assert t3.calls[0].error_code == t3.events[0].payload["error_code"] == code
    assert scene.llm.read(1)[-1]["content"] == t3.messages[0].content
    assert "secret" not in repr(t3)
    assert t4.end == End(EndKind.COMPLETED)


async def test_the_first_effect_begins_only_behind_the_commit_that_announces_it():
    """Durability, section 3: T2 is merged into T1 when nothing lies between."""
    scene = Scene(reply(call("pay")), reply(final()), tools=(PAY, FINAL), functions={"pay": (till := Till())})
    till.order = scene.line.order

    t1, t3, _ = await scene.run()

    assert t1.calls[0].state is CallState.STARTED
    assert scene.line.order == ["commit 1", "effect", "commit 2", "commit 3"]
    assert t3.calls[0].state is CallState.DONE


async def test_a_later_effect_is_announced_by_a_commit_of_its_own():
    """Durability, section 3: T2 before an effectful tool that T1 did not announce."""
    scene = Scene(
        reply(call("pay"), call("pay")), reply(final()), tools=(PAY, FINAL), functions={"pay": (till := Till())}
    )
    till.order = scene.line.order

    _, _, t2, t3, _ = await scene.run()

    assert scene.line.order == ["commit 1", "effect", "commit 2", "commit 3", "effect", "commit 4", "commit 5"]
    (row,) = t2.calls
    assert (row.call_idx, row.state, t2.messages) == (1, CallState.STARTED, ())
    assert t2.events == (NewEvent(EventType.TOOL_CALL_STARTED, {"step": 1, "tool": "pay", "call_id": row.call_id}),)
    assert t3.calls[0].call_id == row.call_id


async def test_an_open_effect_is_announced_before_it_begins():
    open_call = a_call("toolv_pay", effect_class=EffectClass.AT_MOST_ONCE)
    scene = Scene(
        reply(final()),
        tools=(PAY, FINAL),
        functions={"pay": (till := Till())},
        open_calls=(open_call,),
        last_commit=1,
        step_no=1,
    )
    till.order = scene.line.order

    await scene.run()

    assert scene.line.order[:3] == ["commit 2", "effect", "commit 3"]


async def test_a_stale_permit_is_asked_for_before_the_effect():
    scene = Scene(reply(call("pay")), reply(final()), tools=(PAY, FINAL), functions={"pay": (till := Till())})
    till.order = scene.line.order
    scene.line.on_commit = lambda commit: scene.clock.advance(1)  # the acknowledgement comes late

    await scene.run()

    assert scene.line.order == ["commit 1", "beat", "effect", "commit 2", "commit 3"]


@pytest.mark.parametrize("told", ["not yours", "lease over"])
async def test_an_effect_of_a_lost_run_never_begins(told):
    """Durability, section 2: the instance stops by itself."""
    scene = Scene(reply(call("pay")), tools=(PAY, FINAL), functions={"pay": (till := Till())})
    scene.line.answers_beats = False
    scene.line.on_commit = lambda commit: scene.clock.advance(1 if told == "not yours" else 15)

    with pytest.raises(Fenced):
        await scene.run()

    assert till.paid == []
    assert [commit.commit_no for commit in scene.line.commits] == [1]
    assert scene.line.beats == 1


async def test_an_effect_waits_until_a_lease_that_ran_out_is_renewed():
    scene = Scene(reply(call("pay")), reply(final()), tools=(PAY, FINAL), functions={"pay": (till := Till())})
    till.order = scene.line.order
    scene.line.on_commit = lambda commit: scene.clock.advance(15)

    commits = await scene.run()

    assert scene.line.order == ["commit 1", "beat", "effect", "commit 2", "commit 3"]
    assert ended(commits).kind is EndKind.COMPLETED


async def test_a_fenced_commit_ends_everything_that_is_said():
    scene = Scene(reply(call("pay")), tools=(PAY, FINAL), functions={"pay": (till := Till())})
    scene.line.verdict = Verdict.FENCED

    with pytest.raises(Fenced):
        await scene.run()

    assert till.paid == []
    assert len(scene.line.commits) == 1


async def test_a_run_that_is_lost_during_a_tool_says_nothing_more():
    async def pay(arguments, context):
        scene.outbox.lose()
        return ToolResult("paid")

    scene = Scene(reply(call("pay")), tools=(PAY, FINAL), functions={"pay": pay})

    with pytest.raises(Fenced):
        await scene.run()

    assert [commit.commit_no for commit in scene.line.commits] == [1]


# --- draining


async def test_a_draining_worker_gives_the_run_back_between_steps():
    scene = Scene(reply(report()))
    scene.line.on_commit = lambda commit: scene.draining.set()

    commits = await scene.run()

    assert len(commits) == 3
    assert commits[1].artifacts, "the step is finished first"
    last = commits[-1]
    assert (last.end, last.messages, last.calls) == (End(EndKind.RELEASED), (), ())
    assert last.events == (NewEvent(EventType.RUN_REQUEUED, {"reason": "worker_drained"}),)
    assert (last.commit_no, last.step_no, last.counters["tool_calls"]) == (3, 1, 1)


async def test_a_draining_worker_does_not_give_back_what_it_finished():
    scene = Scene(reply(final()))
    scene.line.on_commit = lambda commit: scene.draining.set()

    commits = await scene.run()

    assert [commit.end.kind for commit in commits] == [EndKind.COMPLETED]


# --- the answer on its way


async def test_the_answer_streams_while_it_is_still_being_written():
    """Issue 2, point 8: token by token although it is a tool's argument."""
    scene = Scene(reply(final("One two three four")), cut=every(4))
    seen = []

    async def pause():
        scene.outbox.flush()
        seen.append(scene.line.content)

    scene.llm.pause = pause
    await scene.run()

    assert len(set(seen)) > 3
    assert seen[-1] == "One two three four"
    assert all("One two three four".startswith(part) for part in seen)
    assert scene.line.frames[-1] is scene.line.commits[0]


def any_cut(data):
    def cut(text):
        places = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
        return [text[start:end] for start, end in itertools.pairwise(places)]

    return cut


@settings(deadline=None, max_examples=60)
@given(answer=st.text(min_size=1), data=st.data(), escaped=st.booleans())
async def test_what_streamed_is_what_is_stored_for_any_slicing(answer, data, escaped):
    made = final(answer)
    if escaped:
        arguments = orjson.loads(made.arguments)
        made = LLMToolCall(made.name, json.dumps(arguments))
    scene = Scene(reply(made), cut=any_cut(data))
    flushes = data.draw(st.integers(1, 9))
    count = 0

    async def pause():
        nonlocal count
        count += 1
        if count % flushes == 0:
            scene.outbox.flush()

    scene.llm.pause = pause
    (t4,) = await scene.run()

    assert scene.line.content == t4.messages[0].content == t4.events[-1].payload["text"]
    offset = 0
    for delta in scene.line.deltas:
        assert (delta.offset, delta.step_no) == (offset, 1)
        offset += len(delta.content)


@pytest.mark.parametrize("rest", ['", ', '"}', '", "status": "odd"}'])
async def test_an_answer_that_has_streamed_whole_is_not_unsaid(rest):
    """What the client has read whole is what is stored, whatever is wrong around it."""
    scene = Scene(reply(LLMToolCall("final_answer", '{"answer": "All of it' + rest)))

    (t4,) = await scene.run()

    assert scene.line.content == "All of it"
    assert (t4.messages, t4.end) == ((assistant("All of it"),), End(EndKind.COMPLETED))
    assert t4.events[-1].payload["status"] == "completed"


async def test_an_answer_that_has_streamed_whole_and_says_that_the_task_failed_is_told_as_such():
    rest = '", "status": "failed"}'  # what else the schema wants is not there
    scene = Scene(reply(LLMToolCall("final_answer", '{"answer": "It cannot be done' + rest)))

    (t4,) = await scene.run()

    assert t4.end == End(EndKind.COMPLETED)
    assert t4.events[-1].payload == {"text": "It cannot be done", "finish_reason": "stop", "status": "failed"}


async def test_an_answer_that_was_cut_is_stored_as_far_as_it_streamed():
    cut_off = LLMToolCall("final_answer", '{"reasoning": "r", "answer": "Half of the \\u00e')
    scene = Scene(reply(cut_off, finish_reason="length"))

    (t4,) = await scene.run()

    assert t4.messages == (assistant("Half of the "),)
    assert scene.line.content == "Half of the "
    assert t4.events[-1].payload["finish_reason"] == "length"


async def test_free_text_is_held_back_until_it_is_known_to_be_the_answer():
    scene = Scene(reply(content="The answer", finish_reason="stop"))

    (t4,) = await scene.run()

    assert scene.line.content == ""
    assert t4.messages == (assistant("The answer"),)


async def test_free_text_beside_a_call_is_told_as_a_thought():
    scene = Scene(reply(report(), content="Let me write"), reply(final()))

    t1, *_ = await scene.run()

    assert scene.line.deltas[0].reasoning == "Let me write"
    assert t1.events[0].payload["text"] == "Let me write"


async def test_arguments_of_other_tools_are_not_streamed():
    scene = Scene(reply(call("look", answer="not this")), reply(final("this")), tools=(LOOK, FINAL), functions={})

    await scene.run()

    assert scene.line.content == "this"


async def test_a_repeated_call_of_the_model_starts_the_steps_text_again():
    scene = Scene()

    class Restarting:
        async def complete(self, request, on_delta, *, on_restart):
            for delta in deltas_of(reply(final("Void void")), every(9)):
                on_delta(delta)
            on_restart()
            for delta in deltas_of(reply(final("Real")), every(9)):
                on_delta(delta)
            return reply(final("Real"))

    scene.mind._llm = Restarting()

    (t4,) = await scene.run()

    assert [(delta.offset, delta.content) for delta in scene.line.deltas] == [(0, "Void void"), (0, "Real")]
    assert t4.messages == (assistant("Real"),)


async def test_the_providers_own_reasoning_is_passed_on():
    scene = Scene(reply(final()))
    scene.llm.thoughts = "hm\x00m"

    await scene.run()

    assert scene.line.deltas[0].reasoning == "hm�m"
