"""One worker's stream: what comes in is journalled and told, what goes out is queued.

A commit is acknowledged only after it is stored. Frames are handled in the
order in which they come, so a slot has one statement in flight. The end of the
stream says that this stream ended, not that the worker died: who waits out the
grace is `Attachments`.
"""

import asyncio
import uuid
from contextlib import suppress

import structlog

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Commit, EndKind, Verdict
from maruntime.domain.event import TextDelta
from maruntime.domain.instance import InstanceState
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion
from maruntime.errors import LinkLost, StoreUnavailable
from maruntime.wire import frames
from maruntime.wire.fabric import ServerStream
from orchestrator import metrics
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.renewer import Renewal, Renewer
from orchestrator.journal.journal import Journal
from orchestrator.pool.slots import Slot, Slots
from orchestrator.settings import FabricSettings

log = structlog.get_logger()


class ContractBroken(Exception):
    """The worker said something that cannot be said here; its stream is ended."""


class Attachment:
    """An open stream with its slot; the `InstanceLink` of that slot."""

    def __init__(
        self,
        hello: frames.Hello,
        *,
        journal: Journal,
        slots: Slots,
        bus: EventBus,
        dispatcher: Dispatcher,
        renewer: Renewer,
        settings: FabricSettings,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._hello = hello
        self._journal = journal
        self._slots = slots
        self._bus = bus
        self._dispatcher = dispatcher
        self._renewer = renewer
        self._settings = settings
        self._outgoing: asyncio.Queue[frames.OrchestratorFrame] = asyncio.Queue(settings.send_queue)
        self._open = True
        self._renewed_nonce = 0
        self.slot = Slot(
            instance_id=hello.instance_id,
            worker_id=hello.worker_id,
            attachment=self.id,
            link=self,
            llm_endpoints=hello.llm_endpoints,
            template_version_id=hello.template_version_id,
        )

    # --- what the dispatcher says

    def pin(self, template: TemplateVersion) -> None:
        """Let the idle slot serve another template version from now on."""
        self._send(frames.Pin(template))

    def start(self, assignment: Assignment) -> None:
        """Hand over a claimed run."""
        self._send(assignment)

    def cancel(self, run: RunRef, reason: str) -> None:
        """Say that the run is no longer the slot's."""
        self._send(frames.Cancel(run, reason))

    @property
    def owned_run(self) -> RunRef | None:
        """The run that may have to be released when this stream has ended."""
        return self.slot.run or (self._hello.held.run if self._hello.held else None)

    # --- the stream

    async def welcome(self, template_name: str | None) -> None:
        """Take the slot in, with the run that it still holds, and answer Hello.

        Raises:
            StoreUnavailable: Postgres is away; the worker dials again.
        """
        held, last_commit = self._hello.held, None
        if held is not None:
            last_commit = await self._journal.reattach(held.run, owner=self._hello.instance_id, attachment=self.id)
            if last_commit is not None:
                self.slot.run = held.run
                self.slot.state = InstanceState.RUNNING
                log.info("run_reattached", run_id=held.run.run_id, epoch=held.run.epoch, attachment=self.id)
            else:
                # The instance stops what it held and says Ready when its reset is done.
                self.slot.state = InstanceState.RESETTING
        self.slot.template_name = template_name
        self._slots.add(self.slot)
        self._send(
            frames.Welcome(
                attachment_id=self.id,
                heartbeat=self._settings.heartbeat,
                lease=self._settings.lease,
                permit=self._settings.permit,
                held_kept=last_commit is not None,
                held_last_commit=last_commit or 0,
            )
        )
        self._dispatcher.wake()

    async def write(self, stream: ServerStream) -> None:
        """Send what is queued, for as long as the stream is open."""
        while True:
            await stream.send(await self._outgoing.get())

    async def read(self, stream: ServerStream) -> None:
        """Handle what the worker says, until the stream ends.

        Raises:
            ContractBroken: the worker said something that cannot be said here.
        """
        async for frame in stream.frames():
            await self.handle(frame)

    def close(self) -> None:
        """The stream has ended: nothing can be sent any more."""
        self._open = False

    async def handle(self, frame: frames.WorkerFrame) -> None:
        """Act on one frame."""
        match frame:
            case TextDelta():
                if self.slot.run == RunRef(frame.run_id, frame.epoch):
                    self._bus.publish((frame,))
            case Commit():
                await self._on_commit(frame)
            case frames.Heartbeat():
                self._on_heartbeat(frame)
            case frames.Accepted():
                await self._on_accepted(frame)
            case frames.Ready():
                await self._on_ready(frame)
            case frames.Draining():
                if self.slot.state is InstanceState.IDLE:
                    self._slots.move(self.slot, InstanceState.DRAINING)
                else:
                    self.slot.draining = True
            case frames.Hello():
                raise ContractBroken("a second Hello")

    async def _on_accepted(self, frame: frames.Accepted) -> None:
        if self.slot.run != frame.run:
            return
        if frame.refused_code is None:
            self._slots.move(self.slot, InstanceState.RUNNING)
            return
        log.warning("run_refused", run_id=frame.run.run_id, code=frame.refused_code)
        self._slots.move(self.slot, InstanceState.RESETTING)
        try:
            self._bus.publish(await self._journal.release(frame.run, self.id, untaken=True))
        except StoreUnavailable:
            return  # its lease runs out
        self._dispatcher.wake()

    async def _on_commit(self, commit: Commit) -> None:
        if commit.run != self.slot.run:
            # Whoever holds a join token speaks for its own slots only.
            self._send(frames.Ack(commit.run, commit.commit_no, Verdict.FENCED))
            return
        try:
            with metrics.COMMIT_SECONDS.time():
                stored = await self._journal.commit(commit)
        except StoreUnavailable:
            metrics.COMMITS.labels(verdict=Verdict.RETRY.value).inc()
            self._send(frames.Ack(commit.run, commit.commit_no, Verdict.RETRY, retry=self._settings.renew_every))
            return
        metrics.COMMITS.labels(verdict=stored.verdict.value).inc()
        if stored.events:  # told once: a duplicate has none
            metrics.LLM_TOKENS.labels(kind="prompt").inc(commit.usage.prompt_tokens)
            metrics.LLM_TOKENS.labels(kind="completion").inc(commit.usage.completion_tokens)
        if commit.end is not None and stored.verdict is Verdict.STORED:
            self._on_end(commit)
        # Readers first: whoever sees the acknowledged end of a run finds its slot let go of.
        self._bus.publish(stored.events)
        self._send(frames.Ack(commit.run, commit.commit_no, stored.verdict, stored.last_seq))

    def _on_end(self, commit: Commit) -> None:
        assert commit.end is not None
        if self.slot.run == commit.run and self.slot.state is InstanceState.RUNNING:
            self.slot.runs_served += 1
            self._slots.move(self.slot, InstanceState.RESETTING)
        metrics.RUNS_ENDED.labels(outcome=commit.end.kind.value).inc()
        log.info(
            "run_ended",
            run_id=commit.run.run_id,
            epoch=commit.run.epoch,
            outcome=commit.end.kind.value,
            code=commit.end.failure.code if commit.end.failure else None,
            step=commit.step_no,
            instance_id=self.slot.instance_id,
        )
        if commit.end.kind is EndKind.RELEASED:
            self._dispatcher.run_requeued(commit.run.run_id)

    def _on_heartbeat(self, beat: frames.Heartbeat) -> None:
        metrics.WORKER_LOOP_LAG_SECONDS.observe(beat.loop_lag.total_seconds())
        is_held = self.slot.state in (InstanceState.CLAIMED, InstanceState.RUNNING)
        is_ours = beat.run is not None and self.slot.run == beat.run and is_held
        self._send(frames.HeartbeatAck(beat.nonce, is_ours, self._renewed_nonce))
        if beat.run is not None and is_ours:
            run, nonce = beat.run, beat.nonce
            self._renewer.add(Renewal(run, self.id, lambda is_stored: self._on_renewed(run, nonce, is_stored)))

    def _on_renewed(self, run: RunRef, nonce: int, is_stored: bool) -> None:
        if not self._open or self.slot.run != run or self.slot.state is not InstanceState.RUNNING:
            return
        if is_stored:
            self._renewed_nonce = nonce
            self._send(frames.HeartbeatAck(nonce, True, nonce))
        else:
            log.warning("run_lost", run_id=run.run_id, epoch=run.epoch, attachment=self.id)
            self._slots.move(self.slot, InstanceState.RESETTING)
            self.cancel(run, "lost")

    async def _on_ready(self, frame: frames.Ready) -> None:
        if frame.template_version_id != (self.slot.template_version_id or ""):
            raise ContractBroken("Ready for another template version")
        if self.slot.state is InstanceState.RUNNING:
            # It let go of the run without a commit: it was fenced, or it crashed and still owns the run.
            assert self.slot.run is not None
            run = self.slot.run
            self._slots.move(self.slot, InstanceState.RESETTING)
            with suppress(StoreUnavailable):  # its lease runs out
                self._bus.publish(await self._journal.release(run, self.id))
        if self.slot.state is InstanceState.RESETTING:
            self._slots.move(self.slot, InstanceState.DRAINING if self.slot.draining else InstanceState.IDLE)
            self._dispatcher.wake()

    def _send(self, frame: frames.OrchestratorFrame) -> None:
        if not self._open:
            raise LinkLost(attachment=self.id)
        try:
            self._outgoing.put_nowait(frame)
        except asyncio.QueueFull as exc:
            self._open = False
            raise LinkLost("The worker's stream takes no more", attachment=self.id) from exc
