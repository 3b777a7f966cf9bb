"""Close a session: its active run is cancelled, and whoever works on it is told."""

from maruntime.domain.principal import Principal
from maruntime.domain.run import RunRef
from maruntime.errors import LinkLost
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.journal.journal import Journal
from orchestrator.pool.slots import Slots


class Closing:
    """The use case behind `DELETE /sessions/{id}`."""

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
        for event in events:
            for slot in self._slots:
                if slot.run is not None and slot.run.run_id == event.run_id:
                    try:
                        slot.link.cancel(RunRef(event.run_id, slot.run.epoch), "session_closed")
                    except LinkLost:
                        continue
        self._bus.publish(events)
