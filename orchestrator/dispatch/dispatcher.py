"""Put queued runs on free slots of this replica.

A run is claimed in Postgres with a new epoch, a slot in local memory; the
snapshot goes down the slot's stream. Commits come back through the journal,
never through here. Knows nothing of HTTP and nothing of gRPC: a slot is an
`InstanceLink`.
"""

import asyncio
from datetime import timedelta

import structlog

from maruntime.domain.instance import InstanceState
from maruntime.errors import Fenced, LinkLost, MaruntimeError, StoreUnavailable
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.hints import Hints
from orchestrator.dispatch.snapshots import Snapshots
from orchestrator.journal.journal import Claim, Journal
from orchestrator.metrics import RUNS_CLAIMED
from orchestrator.pool.slots import Slot, Slots

log = structlog.get_logger()


class Dispatcher:
    """The one task of a replica that claims runs."""

    def __init__(
        self,
        journal: Journal,
        slots: Slots,
        snapshots: Snapshots,
        bus: EventBus,
        hints: Hints,
        *,
        poll: timedelta,
    ) -> None:
        self._journal = journal
        self._slots = slots
        self._snapshots = snapshots
        self._bus = bus
        self._hints = hints
        self._poll = poll.total_seconds()
        self._work = asyncio.Event()
        self._stopped = False

    def wake(self) -> None:
        """Look for work now: a run was queued or a slot became free."""
        self._work.set()

    def run_accepted(self, run_id: str, llm_endpoint: str) -> None:
        """A run was queued by this replica: take it here, or let the others know of it."""
        offer = self._slots.offer()
        if offer is None or llm_endpoint not in offer.any_version:
            self._hints.publish(run_id)
        self.wake()

    def run_requeued(self, run_id: str) -> None:
        """A run went back to the queue because its worker goes away: whoever is free first takes it."""
        self._hints.publish(run_id)
        self.wake()

    def stop(self) -> None:
        """Claim nothing more: the replica is going away."""
        self._stopped = True

    async def run(self) -> None:
        """Claim runs for as long as the process lives."""
        async with asyncio.TaskGroup() as starts:
            while True:
                try:
                    async with asyncio.timeout(self._poll):
                        await self._work.wait()
                except TimeoutError:
                    pass
                self._work.clear()
                try:
                    while await self._place_one(starts):
                        pass
                except StoreUnavailable:
                    log.warning("claim_failed", reason="store_unavailable")
                    await asyncio.sleep(self._poll)
                except Exception:
                    log.exception("claim_failed")
                    await asyncio.sleep(self._poll)

    async def _place_one(self, starts: asyncio.TaskGroup) -> bool:
        offer = None if self._stopped else self._slots.offer()
        claim = await self._journal.claim(offer) if offer else None
        if claim is None:
            return False
        RUNS_CLAIMED.inc()
        slot = self._slots.get(claim.instance_id)
        if slot is None or slot.state is not InstanceState.IDLE or slot.attachment != claim.attachment:
            # Its stream ended while we claimed, or gave way to another; the run goes back, keeping its place.
            starts.create_task(self._give_back(claim, untaken=True), name="give_back")
            return True
        pinned_to = slot.template_version_id
        self._slots.claim(slot, claim.run)
        starts.create_task(self._start(claim, slot, pinned_to), name="start_run")
        return True

    async def _start(self, claim: Claim, slot: Slot, pinned_to: str | None) -> None:
        context = {"run_id": claim.run.run_id, "session_id": claim.session_id, "instance_id": slot.instance_id}
        untaken = True
        try:
            assignment = await self._snapshots.of(claim.run)
            if pinned_to != assignment.template.id:
                self._slots.pin(slot, assignment.template)
            slot.link.start(assignment)
            log.info("run_started", epoch=claim.run.epoch, template=assignment.template.name, **context)
            return
        except Fenced:
            log.info("start_fenced", **context)
        except LinkLost as exc:
            log.warning("start_failed", reason=exc.code, **context)
            if slot.state in (InstanceState.CLAIMED, InstanceState.PINNING):
                self._slots.move(slot, InstanceState.DRAINING)  # offered again, it would use up the run's attempts
        except StoreUnavailable as exc:
            log.warning("start_failed", reason=exc.code, **context)
        except MaruntimeError as exc:
            untaken = False  # the run's own fault: without counting it would be tried without end
            log.error("start_failed", reason=exc.code, **context)
        except Exception:
            untaken = False
            log.exception("start_failed", **context)
        if slot.state is InstanceState.CLAIMED:
            self._slots.move(slot, InstanceState.IDLE)
        await self._give_back(claim, untaken=untaken)

    async def _give_back(self, claim: Claim, *, untaken: bool) -> None:
        try:
            self._bus.publish(await self._journal.release(claim.run, claim.attachment, untaken=untaken))
        except StoreUnavailable:
            log.warning("release_failed", run_id=claim.run.run_id)  # its lease runs out
        except Exception:
            log.exception("release_failed", run_id=claim.run.run_id)
        else:
            self.wake()
