"""The scripted LLM for a person who tries the stack by hand, without a case.

Three things can be seen with it: a report (say "report" or "отчёт"), a
question back (say "something" or "что-нибудь") and a plain answer.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from testserver.llm_request import LLMRequest
from testserver.llm_wire import CalledTool, LLMReply

REPORT_WORDS = ("report", "отчёт", "отчет")
VAGUE_WORDS = ("something", "что-нибудь", "что-то")


def answer(request: LLMRequest) -> LLMReply:
    """Choose the most telling thing that the offered tools allow."""
    tools = request.tools
    if not tools:
        return _plain(request)
    name = _chosen(request)
    if name is None:
        return LLMReply(content=_answer_text(request))
    return _call(name, tools[name], _own_arguments(name, request))


def _chosen(request: LLMRequest) -> str | None:
    tools, said = request.tools, request.last_user.lower()
    called = {call["name"] for call in request.since_last_user().tool_calls()}
    if tools.keys() == {"reasoning"}:
        return "reasoning"
    if request.tool_choice in tools:
        return request.tool_choice
    if "create_report" in tools and "create_report" not in called and _mentions(said, REPORT_WORDS):
        return "create_report"
    if "clarification" in tools and not _has_clarified(request) and _mentions(said, VAGUE_WORDS):
        return "clarification"
    if "final_answer" in tools:
        return "final_answer"
    return next(iter(tools)) if request.tool_choice == "required" else None


def _mentions(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


def _has_clarified(request: LLMRequest) -> bool:
    return any(call["name"] == "clarification" for call in request.tool_calls())


def _plain(request: LLMRequest) -> LLMReply:
    if request.response_schema is not None:
        return LLMReply(content=orjson.dumps(_fill(request.response_schema, {}, request.response_schema)).decode())
    return LLMReply(content=_answer_text(request))


def _answer_text(request: LLMRequest) -> str:
    text = f"This is the scripted LLM of the test server: no model was asked. You said: «{request.last_user}»."
    reports = request.since_last_user().tool_results("create_report")
    if reports:
        text += f" The report is written: {reports[-1]}"
    return text


def _call(name: str, function: Mapping[str, Any], own: dict[str, Any]) -> LLMReply:
    schema = function.get("parameters")
    schema = schema if isinstance(schema, Mapping) else {}
    arguments = _fill(schema, own, schema) if schema else own
    # The answer is paced as a model's is, so that a person sees it stream.
    paced = {"chunk": 12, "delay_s": 0.005} if name == "final_answer" else {}
    return LLMReply(tool_calls=(CalledTool(name, orjson.dumps(arguments).decode()),), **paced)


def _own_arguments(name: str, request: LLMRequest) -> dict[str, Any]:
    said = request.last_user
    topic = " ".join(said.split())[:80]
    match name:
        case "reasoning":
            finished = bool(request.since_last_user().tool_results("create_report"))
            return {
                "reasoning_steps": [f"The user says: {topic}", "The scripted LLM chooses the next tool by a word"],
                "current_situation": "The demo script is playing.",
                "plan_status": "on track",
                "enough_data": True,
                "remaining_steps": ["answer"],
                "task_completed": finished or not _mentions(said.lower(), REPORT_WORDS),
            }
        case "create_report":
            return {
                "reasoning": "The user asks for a report.",
                "title": f"Report: {topic}",
                "content": f"# Report\n\nAsked for: {said}\n\n- Written by the scripted LLM.\n- No model was asked.\n",
                "confidence": "high",
            }
        case "clarification":
            return {
                "reasoning": "The request is too vague to act on.",
                "unclear_terms": [topic],
                "assumptions": ["You want to see how a question works."],
                "questions": ["What exactly would you like? Any answer will do."],
            }
        case "final_answer":
            return {
                "reasoning": "Nothing is left to do.",
                "completed_steps": ["read the message"],
                "answer": _answer_text(request),
                "status": "completed",
            }
        case _:
            return {}


def _fill(schema: Mapping[str, Any], own: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Our values for the fields that the schema knows, made-up ones for the other required fields."""
    known = schema.get("properties") or {}
    filled = {key: value for key, value in own.items() if key in known and _fits(value, _resolved(known[key], root))}
    for key in schema.get("required") or []:
        if key not in filled:
            filled[key] = _made_up(known.get(key) or {}, root, depth=0)
    return filled


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    names = {str: "string", bool: "boolean", list: "array", dict: "object"}
    if "enum" in schema:
        return value in schema["enum"]
    return schema.get("type") in (None, names.get(type(value)))


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return _resolved(schema[keyword][0], root)
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = root.get("$defs") or root.get("definitions") or {}
    return definitions.get(reference.rsplit("/", 1)[-1]) or {}


def _made_up(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type", "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "boolean":
            return True
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "null":
            return None
        case "array":
            count = max(1, schema.get("minItems", 1))
            return [_made_up(schema.get("items") or {}, root, depth + 1) for _ in range(count)] if depth < 8 else []
        case "object":
            nested = schema.get("properties") or {}
            required = (schema.get("required") or []) if depth < 8 else []
            return {key: _made_up(nested.get(key) or {}, root, depth + 1) for key in required}
        case _:
            return "scripted".ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
