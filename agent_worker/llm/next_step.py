"""One reply that holds the reasoning and the next action: its schema, and how to read it.

The schema says `function` last and the tool's name first in it, so that the
text of an answer can be shown while the model still writes it. Whether the
arguments fit the tool is judged later, by the tool's own schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from agent_worker.llm.contract import LLMToolCall
from agent_worker.llm.partial_json import Path
from agent_worker.llm.strict_schema import Strict, strict, strict_object
from maruntime.domain.tool import ToolDescriptor

FUNCTION = "function"
THOUGHTS: tuple[Path, ...] = (("reasoning_steps", None), ("current_situation",))
"""The fields that are told to readers, in their order."""

_REASONING: dict[str, dict[str, Any]] = {
    "reasoning_steps": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Two or three short thoughts that lead to the next action",
    },
    "current_situation": {"type": "string", "description": "What is known now, in at most 300 characters"},
    "plan_status": {"type": "string", "description": "How far the plan has come, in at most 150 characters"},
    "enough_data": {"type": "boolean", "description": "Whether what is known suffices for the answer"},
    "remaining_steps": {
        "type": "array",
        "items": {"type": "string"},
        "description": "At most three steps that are still to be done",
    },
    "task_completed": {"type": "boolean", "description": "Whether nothing remains but to answer"},
}
_THINKING = Draft202012Validator(
    {"type": "object", "required": list(_REASONING), "properties": {**_REASONING, FUNCTION: {"type": "object"}}}
)
_ARGUMENTS = "arguments"
_QUOTED = 300


class NextStepInvalid(ValueError):
    """The reply cannot be used; the text is for the model."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the model thought and what it wants to do."""

    thought: str
    call: LLMToolCall


class NextStep:
    """The form of one step with these tools."""

    def __init__(self, tools: Sequence[ToolDescriptor]) -> None:
        parameters = {name for tool in tools for name in tool.parameters.get("properties") or ()}
        self.tag = "tool"
        """The property of `function` that names the tool; no parameter is called so."""
        while self.tag in parameters:
            self.tag += "_"
        self._forms = {tool.name: _arguments_form(tool) for tool in tools}
        self._tools = tools

    def response_format(self) -> dict[str, Any]:
        """The `response_format` that makes a model fill the form."""
        function = {
            "description": "The next action: the tool and its arguments",
            "anyOf": [self._branch(tool) for tool in self._tools],
        }
        properties = {**_REASONING, FUNCTION: function}
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        return {"type": "json_schema", "json_schema": {"name": "next_step", "strict": True, "schema": schema}}

    def read(self, text: str) -> Step:
        """What the model filled in.

        Raises:
            NextStepInvalid: it is no JSON, or a part of the form is missing.
        """
        # Servers that do not hold the model to the schema put fences or words around the object.
        begin, end = text.find("{"), text.rfind("}") + 1
        try:
            said = orjson.loads(text[begin:end].encode("utf-8", "replace") if 0 <= begin < end else text)
        except (orjson.JSONDecodeError, UnicodeEncodeError) as exc:
            raise NextStepInvalid(f"Your answer is not valid JSON ({exc}): {text[:_QUOTED]}") from exc
        problem = next(iter(_THINKING.iter_errors(said)), None)
        if problem is not None:
            raise NextStepInvalid(f"Your answer does not fit its schema: {problem.json_path}: {problem.message}")
        function = said.get(FUNCTION)
        name = function.pop(self.tag, None) if isinstance(function, dict) else None
        if not isinstance(name, str):
            raise NextStepInvalid(f"Your answer has no {FUNCTION}.{self.tag}: name one of {', '.join(self._forms)}.")
        arguments = self._forms[name].back(function) if name in self._forms else function
        thought = "\n".join([*said["reasoning_steps"], said["current_situation"]])
        return Step(thought, LLMToolCall(name, orjson.dumps(arguments).decode()))

    def _branch(self, tool: ToolDescriptor) -> dict[str, Any]:
        form = self._forms[tool.name].schema
        properties = {self.tag: {"type": "string", "const": tool.name}, **form["properties"]}
        return {**form, "properties": properties, "required": list(properties), "description": tool.description}


def _arguments_form(tool: ToolDescriptor) -> Strict:
    parameters = tool.parameters
    if not (set(parameters) - {"type", "properties", "required", "description", "title", "$schema"}):
        # Open by default, but nothing says what else there could be.
        parameters = {**parameters, "additionalProperties": False}
    form = strict_object(parameters, parameters)
    if form is not None and not ({"$ref", "anyOf", "oneOf", "allOf"} & parameters.keys()):
        return form
    whole = strict({**parameters, "description": ""}, parameters, levels=0)

    def back(value: Any) -> Any:
        return whole.back(value.get(_ARGUMENTS)) if isinstance(value, dict) else value

    return Strict(
        {
            "type": "object",
            "properties": {_ARGUMENTS: whole.schema},
            "required": [_ARGUMENTS],
            "additionalProperties": False,
        },
        back,
    )
