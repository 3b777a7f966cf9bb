"""Close a session, or only end what it works on: its active run is cancelled, and whoever has it is told."""

from collections.abc import Sequence

from maruntime.domain.event import RunEvent
from maruntime.domain.principal import Principal
from maruntime.domain.run import RunRef
from maruntime.errors import LinkLost
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.journal.journal import Journal
from orchestrator.persistence.audit import Actor
from orchestrator.pool.slots import Slots


class Closing:
    """The use cases behind `DELETE /sessions/{id}` and `POST /admin/sessions/{id}/cancel`."""

    def __init__(self, journal: Journal, slots: Slots, bus: EventBus) -> None:
        self._journal = journal
        self._slots = slots
        self._bus = bus

    async def close(self, caller: Principal, session_id: str) -> None:
        """Close a session and cancel its active run; closing it twice changes nothing.

        The cancellation holds from here on: the epoch has moved, so every later
        commit of the owner fails. Telling the owner only spares it the work.

        Raises:
            SessionNotFound: no such session of this caller.
        """
        events = await self._journal.close_session(caller, session_id)
        self._tell(events, "session_closed")

    async def cancel(self, actor: Actor, session_id: str) -> str | None:
        """Cancel the active run of a session, whoever owns it; the session stays open.

        Gives the run's id; None when no run was active.

        Raises:
            SessionNotFound: no such session of the actor's tenant.
        """
        events = await self._journal.cancel_run(actor, session_id)
        self._tell(events, "cancelled")
        return events[0].run_id if events else None

    def _tell(self, events: Sequence[RunEvent], reason: str) -> None:
        for event in events:
            for slot in self._slots:
                if slot.run is not None and slot.run.run_id == event.run_id:
                    try:
                        slot.link.cancel(RunRef(event.run_id, slot.run.epoch), reason)
                    except LinkLost:
                        continue
        self._bus.publish(events)
