"""Prompt packs: folders of text files, filled in with what is true of this very step.

The `PromptLoader` of the roadmap.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from string import Template

import orjson

from maruntime.domain.tool import ToolDescriptor
from maruntime.errors import MaruntimeError

_PACKS = Path(__file__).resolve().parent / "packs"


class PromptPackUnknown(MaruntimeError):
    """The template names a prompt pack that this worker does not have."""

    code = "prompt_pack_unknown"


def system_prompt(pack: str, tools: Iterable[ToolDescriptor], now: datetime) -> str:
    """The system prompt of a step: only tools that are really offered, the date of now.

    Raises:
        PromptPackUnknown: no such pack.
    """
    return _template(pack, "system").substitute(tools=_listed(tools), date=now.date().isoformat())


def filled_in(text: str, tools: Iterable[ToolDescriptor], now: datetime) -> str:
    """A template's own prompt with `$tools` and `$date` filled in; any other `$` stays as it is."""
    return Template(text).safe_substitute(tools=_listed(tools), date=now.date().isoformat())


def form_of_calls(tools: Iterable[ToolDescriptor]) -> str:
    """How a model without function calling writes a call, and all that it has to know of the tools."""
    described = "\n\n".join(
        f"{tool.name}: {tool.description}\nArguments (JSON Schema): {orjson.dumps(tool.parameters).decode()}"
        for tool in tools
    )
    return _template("text", "form").substitute(tools=described)


def _listed(tools: Iterable[ToolDescriptor]) -> str:
    return "\n".join(f"- {tool.name}: {tool.description}" for tool in tools)


@lru_cache(maxsize=128)
def _template(pack: str, part: str) -> Template:
    path = (_PACKS / pack / f"{part}.txt").resolve()
    if not path.is_relative_to(_PACKS) or not path.is_file():
        raise PromptPackUnknown(f"There is no prompt pack {pack!r}")
    return Template(path.read_text(encoding="utf-8"))
