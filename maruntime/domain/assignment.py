"""Everything an instance needs to work on a run: the snapshot that goes down with a claim."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from maruntime.domain.commit import ToolCallRow
from maruntime.domain.message import Message
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion
from maruntime.domain.tool import ToolDescriptor


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed run with its transcript, template and tools.

    `lease` is what is left of it. `context` holds what the run carries beside its messages: `counters`,
    and `llm_parameters` as the client gave them.
    """

    run: RunRef
    session_id: str
    tenant_id: str
    principal_id: str
    lease: timedelta
    last_commit: int
    step_no: int
    template: TemplateVersion
    tools: tuple[ToolDescriptor, ...]
    transcript: tuple[Message, ...]
    open_calls: tuple[ToolCallRow, ...] = ()
    elapsed: timedelta = timedelta()
    """Since the run was accepted, by the store's clock."""
    context: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, str] = field(default_factory=dict)
