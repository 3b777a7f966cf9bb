"""How a slot of a worker is spoken to, whatever carries the words."""

from typing import Protocol

from maruntime.domain.assignment import Assignment
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion


class InstanceLink(Protocol):
    """One worker's slot, as seen from the orchestrator that holds its stream.

    Every method queues the word and returns; `LinkLost` is raised when the
    stream has ended or takes no more.
    """

    def pin(self, template: TemplateVersion) -> None:
        """Let the idle slot serve another template version from now on."""
        ...

    def start(self, assignment: Assignment) -> None:
        """Hand over a claimed run."""
        ...

    def cancel(self, run: RunRef, reason: str) -> None:
        """Say that the run is no longer the slot's."""
        ...
