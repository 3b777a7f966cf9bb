"""Slots without a stream: what was said to them is kept."""

import asyncio
from typing import Any

from maruntime.domain.assignment import Assignment
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion
from maruntime.errors import LinkLost
from orchestrator.pool.slots import Slot


class RecordedLink:
    """An `InstanceLink` that keeps what it was told; `is_lost` makes it refuse."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.told = asyncio.Event()
        self.is_lost = False

    def pin(self, template: TemplateVersion) -> None:
        self._note("pin", template.id)

    def start(self, assignment: Assignment) -> None:
        self._note("start", assignment.run)

    def cancel(self, run: RunRef, reason: str) -> None:
        self._note("cancel", run, reason)

    def _note(self, *word: Any) -> None:
        if self.is_lost:
            raise LinkLost
        self.said.append(word)
        self.told.set()


def a_slot(
    instance_id: str = "w1/0",
    *,
    attachment: str | None = None,
    endpoints: tuple[str, ...] = ("main",),
    link: RecordedLink | None = None,
    pinned_to: str | None = None,
) -> Slot:
    """An idle slot."""
    return Slot(
        instance_id=instance_id,
        worker_id=instance_id.split("/")[0],
        attachment=attachment or f"attachment of {instance_id}",
        link=link or RecordedLink(),
        llm_endpoints=endpoints,
        template_version_id=pinned_to,
    )
