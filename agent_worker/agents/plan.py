"""Turn what the model said into what is recorded and done: tool calls, an answer, or a complaint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent_worker.agents.contract import ANSWER, Decision, Reasoned
from agent_worker.agents.toolbox import CLARIFICATION, FINAL_ANSWER
from agent_worker.tools.arguments import ArgumentsInvalid, clean_text, read_arguments
from maruntime.domain.commit import CallState, ToolCallRow
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.tool import EffectClass, ToolDescriptor
from maruntime.ids import new_call_id

TERMINAL = frozenset({FINAL_ANSWER, CLARIFICATION, ANSWER})
_CUT = "length"
_SAYS_FAILED = re.compile(r'"status"\s*:\s*"failed"')
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """The model answered the user."""

    text: str
    finish_reason: str
    status: str = "completed"
    """`failed` when the model itself says that the task could not be done."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Nothing that the model said can be used; the text tells it why."""

    text: str


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls to be made, in order, with the messages that T1 stores and what was wrong with other calls."""

    rows: tuple[ToolCallRow, ...]
    messages: tuple[Message, ...]
    rejected: tuple[str, ...]


def plan(
    decision: Decision, tools: Mapping[str, ToolDescriptor], step_no: int, first_idx: int
) -> Answer | Complaint | Calls:
    """Read a decision.

    A call that cannot be used is answered by its problem in the transcript; the
    others go on. A call that ends the turn leaves no tool call in the
    transcript: its text becomes the assistant's message.
    """
    if decision.verbatim:
        return Answer(clean_text(decision.text), decision.finish_reason)
    if decision.finish_reason == _CUT and decision.answer:
        return _as_told(decision, tools, step_no, first_idx, _CUT)
    if decision.complaint is not None:
        if decision.answer_is_whole:
            return _as_told(decision, tools, step_no, first_idx, "stop")
        return Complaint(decision.complaint)
    text = clean_text(decision.text).strip()
    if not decision.calls:
        if text:
            return Answer(text, _CUT if decision.finish_reason == _CUT else "stop")
        return Complaint("Your answer was empty. Call one of the tools.")
    rows: list[ToolCallRow] = []
    refs: list[ToolCallRef] = []
    problems: list[tuple[str, str]] = []
    for call_idx, call in enumerate(decision.calls, start=first_idx):
        call_id = new_call_id()
        name = clean_text(call.name)
        tool = tools.get(name)
        try:
            if tool is None:
                raise ArgumentsInvalid(f"There is no tool {name[:_NAME_LENGTH]!r} now. Use one of: {', '.join(tools)}.")
            arguments = read_arguments(tool, call.arguments)
        except ArgumentsInvalid as exc:
            if call is decision.calls[0] and decision.answer_is_whole:
                # The client has the whole answer already: what is wrong around it is no reason to unsay it.
                return _as_told(decision, tools, step_no, first_idx, "stop")
            # Providers refuse a history with such arguments or names: the problem quotes them instead.
            refs.append(ToolCallRef(id=call_id, function=FunctionCall(name=_tellable(name), arguments="{}")))
            problems.append((call_id, clean_text(str(exc))))
            continue
        rows.append(_planned(tool, step_no, call_idx, call_id, arguments))
        if tool.name not in TERMINAL:
            function = FunctionCall(name=name, arguments=clean_text(call.arguments))
            refs.append(ToolCallRef(id=call_id, function=function))
    messages: list[Message] = []
    if refs:
        said = text or clean_text(decision.thought).strip() or None
        messages.append(Message(role=Role.ASSISTANT, content=said, tool_calls=tuple(refs)))
        messages += [
            Message(role=Role.TOOL, content=f"Error: {problem}", tool_call_id=call_id) for call_id, problem in problems
        ]
    return Calls(_begun(tuple(rows)), tuple(messages), tuple(problem for _, problem in problems))


def handed_over(row: ToolCallRow) -> str | None:
    """The text with which a call gives the turn back to the user; None when it does not."""
    if row.tool_name == CLARIFICATION:
        return "\n".join(row.arguments["questions"])
    return row.arguments["answer"] if row.tool_name == ANSWER else None


def _as_told(
    decision: Decision, tools: Mapping[str, ToolDescriptor], step_no: int, first_idx: int, finish_reason: str
) -> Answer | Calls:
    """What readers have already stands, whatever is wrong around it."""
    tool = tools.get(decision.answer_tool)
    if decision.answer_tool == ANSWER and tool is not None:
        arguments = {"reasoning": "", "answer": decision.answer}
        return Calls((_planned(tool, step_no, first_idx, new_call_id(), arguments),), (), ())
    written = decision.calls[0].arguments if decision.calls else decision.text
    failed = finish_reason != _CUT and _SAYS_FAILED.search(written)
    return Answer(decision.answer, finish_reason, "failed" if failed else "completed")


def _planned(tool: ToolDescriptor, step_no: int, call_idx: int, call_id: str, arguments: dict[str, Any]) -> ToolCallRow:
    return ToolCallRow(
        step_no=step_no,
        call_idx=call_idx,
        call_id=call_id,
        tool_name=tool.name,
        tool_version_id=tool.version_id,
        effect_class=tool.effect_class,
        state=CallState.PLANNED,
        arguments=arguments,
    )


def _tellable(name: str) -> str:
    """The name in the form that providers accept in a history."""
    return _NO_NAME.sub("_", name)[:_NAME_LENGTH] or "unknown"


def reasoned_rows(reasoned: Reasoned, step_no: int) -> tuple[ToolCallRow, ...]:
    """The reasoning phase's calls, finished as soon as they were made."""
    return tuple(
        ToolCallRow(
            step_no=step_no,
            call_idx=call_idx,
            call_id=call.call_id,
            tool_name=call.tool.name,
            tool_version_id=call.tool.version_id,
            effect_class=call.tool.effect_class,
            state=CallState.DONE,
            arguments=call.arguments,
            result="",
        )
        for call_idx, call in enumerate(reasoned.calls)
    )


def _begun(rows: tuple[ToolCallRow, ...]) -> tuple[ToolCallRow, ...]:
    """The first call follows T1 at once: its intent is journalled with it when it has an effect."""
    if not rows or rows[0].tool_name in TERMINAL or rows[0].effect_class is EffectClass.PURE:
        return rows
    return (started(rows[0]), *rows[1:])


def started(row: ToolCallRow) -> ToolCallRow:
    """The call with its intent journalled."""
    return replace(row, state=CallState.STARTED)


def done(
    row: ToolCallRow, result: str, *, error_code: str | None = None, artifact_id: str | None = None
) -> ToolCallRow:
    """The call with its result."""
    return replace(row, state=CallState.DONE, result=result, error_code=error_code, artifact_id=artifact_id)
