"""A journal that is a list of events: what readers and loops need of it, with an outage to switch on."""

from collections import defaultdict
from collections.abc import Sequence

from maruntime.domain.event import EventType, RunEvent
from maruntime.domain.run import RunRef
from maruntime.errors import StoreUnavailable


class ListJournal:
    """Keeps events per run; `is_away` makes every call fail as a store that is away does."""

    def __init__(self) -> None:
        self.kept: dict[str, list[RunEvent]] = defaultdict(list)
        self.is_away = False
        self.reads = 0
        self.late: tuple[RunEvent, ...] = ()
        self.lost: tuple[RunEvent, ...] = ()
        self.lease_sweeps = 0
        self.renewals: list[list[tuple[RunRef, str]]] = []
        self.ours: set[RunRef] = set()
        self.delivered_turns: list[str] = []

    def add(self, run: RunRef, type_: EventType = EventType.STEP_REASONED, **payload: object) -> RunEvent:
        """Store an event in its place."""
        event = RunEvent(run.run_id, run.epoch, len(self.kept[run.run_id]) + 1, type_, dict(payload))
        self.kept[run.run_id].append(event)
        return event

    async def events_after(self, run_id: str, seq: int) -> tuple[RunEvent, ...]:
        self._answer()
        self.reads += 1
        return tuple(event for event in self.kept[run_id] if event.seq > seq)[:500]

    async def last_seqs(self, run_ids: Sequence[str]) -> dict[str, int]:
        self._answer()
        return {run_id: len(self.kept[run_id]) for run_id in run_ids if self.kept[run_id]}

    async def sweep_deadlines(self) -> tuple[RunEvent, ...]:
        self._answer()
        return self.late

    async def sweep_leases(self) -> tuple[RunEvent, ...]:
        self._answer()
        self.lease_sweeps += 1
        return self.lost

    async def renew(self, held: Sequence[tuple[RunRef, str]]) -> set[RunRef]:
        self._answer()
        self.renewals.append(list(held))
        return {run for run, _ in held} & self.ours

    async def delivered(self, turn_id: str) -> None:
        self._answer()
        self.delivered_turns.append(turn_id)

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailable
