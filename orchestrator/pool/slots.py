"""The slots whose streams this replica holds: which are free, and which one a run should get.

A slot is claimed here, in local memory; the run is claimed in Postgres. Choice:
an idle slot pinned to the version, most recently used first; else a blank one;
else the least recently used idle slot is pinned anew. So idle pinned slots never
starve another template. The `InstancePool` of the roadmap.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from maruntime.clock import Clock
from maruntime.domain.instance import InstanceRecord, InstanceState, can_become
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion
from orchestrator.journal.journal import SlotOffer
from orchestrator.pool.link import InstanceLink


@dataclass(slots=True)
class Slot:
    """One stream of a worker, and the instance on it."""

    instance_id: str
    worker_id: str
    attachment: str
    link: InstanceLink
    llm_endpoints: tuple[str, ...]
    state: InstanceState = InstanceState.IDLE
    template_name: str | None = None
    template_version_id: str | None = None
    run: RunRef | None = None
    runs_served: int = 0
    draining: bool = False
    used_at: float = 0.0


class IllegalTransition(RuntimeError):
    """An instance was moved to a state that cannot follow its own: a defect of ours."""


class Slots:
    """All slots of this replica, by instance id."""

    def __init__(self, replica: str, clock: Clock, on_change: Callable[[str], None]) -> None:
        self.replica = replica
        self._clock = clock
        self._on_change = on_change
        self._slots: dict[str, Slot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def get(self, instance_id: str) -> Slot | None:
        """The slot of an instance, if its stream is held here."""
        return self._slots.get(instance_id)

    def add(self, slot: Slot) -> None:
        """Take in a slot whose stream was just opened; it takes the place of an older stream of the instance."""
        self._slots[slot.instance_id] = slot
        self._on_change(slot.instance_id)

    def remove(self, slot: Slot) -> None:
        """Forget a slot whose stream ended, unless a newer stream took its place."""
        if self._slots.get(slot.instance_id) is slot:
            is_drained = slot.state is InstanceState.DRAINING
            slot.state = InstanceState.GONE if is_drained else InstanceState.LOST
            del self._slots[slot.instance_id]
            self._on_change(slot.instance_id)

    def move(self, slot: Slot, state: InstanceState) -> None:
        """Move an instance to another state.

        Raises:
            IllegalTransition: the state cannot follow the present one.
        """
        if not can_become(slot.state, state):
            raise IllegalTransition(f"{slot.instance_id}: {slot.state} cannot become {state}")
        slot.state = state
        if state is InstanceState.IDLE:
            slot.run = None
            slot.used_at = self._clock.monotonic()
        self._on_change(slot.instance_id)

    def claim(self, slot: Slot, run: RunRef) -> None:
        """Put a claimed run on an idle slot."""
        slot.run = run
        self.move(slot, InstanceState.CLAIMED)

    def pin(self, slot: Slot, template: TemplateVersion) -> None:
        """Let a claimed slot serve a template version from now on.

        Raises:
            LinkLost: the slot's stream has ended.
        """
        self.move(slot, InstanceState.PINNING)
        slot.link.pin(template)
        slot.template_name = template.name
        slot.template_version_id = template.id
        slot.runs_served = 0
        self.move(slot, InstanceState.CLAIMED)

    def offer(self) -> SlotOffer | None:
        """The best free slot for every case; None when no slot is free."""
        idle = [slot for slot in self._slots.values() if slot.state is InstanceState.IDLE]
        if not idle:
            return None
        pinned: dict[tuple[str, str], tuple[str, str]] = {}
        any_version: dict[str, tuple[str, str]] = {}
        for slot in sorted(idle, key=lambda slot: slot.used_at):
            for endpoint in slot.llm_endpoints:
                here = (slot.instance_id, slot.attachment)
                if slot.template_version_id is not None:
                    pinned[endpoint, slot.template_version_id] = here
                any_version.setdefault(endpoint, here)
        for slot in idle:
            if slot.template_version_id is None:
                any_version.update(dict.fromkeys(slot.llm_endpoints, (slot.instance_id, slot.attachment)))
        return SlotOffer(pinned, any_version)

    def record(self, slot: Slot) -> InstanceRecord:
        """The slot as the registry shows it."""
        return InstanceRecord(
            instance_id=slot.instance_id,
            worker_id=slot.worker_id,
            replica=self.replica,
            attachment=slot.attachment,
            state=slot.state,
            template=slot.template_name,
            template_version_id=slot.template_version_id,
            run_id=slot.run.run_id if slot.run else None,
            runs_served=slot.runs_served,
            llm_endpoints=slot.llm_endpoints,
        )
