"""The messages of a step: the template's prompt, then the transcript in strict OpenAI form."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from agent_worker.prompts.prompt_pack import system_prompt
from maruntime.domain.message import Message, Role
from maruntime.domain.template import TemplateBody
from maruntime.domain.tool import ToolDescriptor

_NO_RESULT = "[no result: the run ended before the tool was finished]"


def build_messages(
    template: TemplateBody,
    tools: Iterable[ToolDescriptor],
    transcript: Sequence[Message],
    complaint: str | None,
    now: datetime,
) -> tuple[dict[str, Any], ...]:
    """What the model reads in this step.

    `complaint` is said last, to the model alone: what was wrong with its
    previous answer when that answer left no trace in the transcript.
    """
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system_prompt(template.prompt_pack, tools, now)},
        *(message.to_openai() for message in complete(transcript)),
    ]
    if complaint is not None:
        messages.append({"role": "user", "content": f"[platform] {complaint}"})
    return tuple(messages)


def complete(transcript: Sequence[Message]) -> list[Message]:
    """The transcript with a result behind every tool call.

    A run that was cancelled or lost in the middle of a call leaves a call
    without a result, which providers refuse.
    """
    whole: list[Message] = []
    open_calls: dict[str, None] = {}
    for message in transcript:
        if message.role is Role.TOOL:
            if message.tool_call_id in open_calls:
                del open_calls[message.tool_call_id]
            whole.append(message)
            continue
        whole.extend(_closed(open_calls))
        open_calls = {call.id: None for call in message.tool_calls}
        whole.append(message)
    whole.extend(_closed(open_calls))
    return whole


def _closed(open_calls: Iterable[str]) -> list[Message]:
    return [Message(role=Role.TOOL, content=_NO_RESULT, tool_call_id=call_id) for call_id in open_calls]
