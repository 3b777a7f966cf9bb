"""The messages of a step: the template's prompt, then the transcript in strict OpenAI form, within the budget."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from agent_worker.agents.budget import estimated_tokens, fitted
from agent_worker.prompts.prompt_pack import filled_in, form_of_calls, system_prompt
from maruntime.domain.message import Message, Role
from maruntime.domain.template import AgentKind, TemplateBody
from maruntime.domain.tool import ToolDescriptor

_NO_RESULT = "[no result: the run ended before the tool was finished]"
_RESERVE = 1024


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
    tools = tuple(tools)
    prompt = _system(template, tools, now)
    messages: list[dict[str, Any]] = [{"role": "system", "content": prompt}] if prompt else []
    messages += [message.to_openai() for message in complete(transcript)]
    if complaint is not None:
        messages.append({"role": "user", "content": f"[platform] {complaint}"})
    messages = fitted(messages, _room(template, tools))
    return tuple(without_tool_roles(messages) if template.kind is AgentKind.TEXT else messages)


def _system(template: TemplateBody, tools: Sequence[ToolDescriptor], now: datetime) -> str:
    """The system prompt: the template's own text or its pack; a passthrough has none but its own."""
    if template.system_prompt is not None:
        prompt = filled_in(template.system_prompt, tools, now)
    elif template.kind is AgentKind.PASSTHROUGH:
        return ""
    else:
        prompt = system_prompt(template.prompt_pack, tools, now)
    return f"{prompt.rstrip()}\n\n{form_of_calls(tools)}" if template.kind is AgentKind.TEXT else prompt


def _room(template: TemplateBody, tools: Sequence[ToolDescriptor]) -> int:
    """What is left for messages beside the tools, which are sent too, and the answer."""
    whole = template.limits.context_tokens
    answer = min(template.llm.max_completion_tokens or _RESERVE, whole // 4)
    offered = template.kind not in (AgentKind.TEXT, AgentKind.PASSTHROUGH)
    said = sum(estimated_tokens(orjson.dumps(tool.to_openai()).decode()) for tool in tools) if offered else 0
    return max(whole - answer - said, whole // 4)


def without_tool_roles(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages for a model that knows no tools: calls as they are written in text, results as the user's words.

    Neighbours of one role become one message: many chat templates want turns.
    """
    names: dict[str, str] = {}
    plain: list[dict[str, Any]] = []
    for message in messages:
        role, text = message["role"], message["content"]
        if role == Role.TOOL:
            role, text = "user", f"[result of {names.get(message['tool_call_id'], 'a tool')}]\n{text}"
        for call in message.get("tool_calls", ()):
            names[call["id"]] = call["function"]["name"]
            written = f'{{"tool": "{call["function"]["name"]}", "arguments": {call["function"]["arguments"]}}}'
            text = f"{text}\n{written}" if text else written
        if plain and plain[-1]["role"] == role and isinstance(text, str) and isinstance(plain[-1]["content"], str):
            plain[-1] = {**plain[-1], "content": f"{plain[-1]['content']}\n\n{text}"}
        else:
            said = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
            plain.append({**said, "role": role, "content": text})
    return plain


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
