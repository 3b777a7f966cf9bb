"""One slot: a stream to some orchestrator, dialled again whenever it ends, and the instance behind it.

A run outlives its stream: after a break the slot says which run it still holds,
and goes on when it may keep it.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import grpc
import grpc.aio
import structlog

from agent_worker.instance import AgentInstance
from agent_worker.outbox import Outbox
from maruntime.clock import Clock
from maruntime.domain.assignment import Assignment
from maruntime.domain.event import TextDelta
from maruntime.errors import MaruntimeError
from maruntime.wire import frames
from maruntime.wire.fabric import WorkerStream

_WELCOME_WITHIN = 10.0
_REFUSALS = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)
_REFUSED_PAUSE = 5.0
_DELTAS_WAITING = 512
"""Of all frames only deltas can pile up: one commit is in flight, heartbeats come every few seconds."""

log = structlog.get_logger()


class StreamEnded(Exception):
    """The orchestrator ended the stream."""


class Slot:
    """Keeps one stream open for as long as the worker lives."""

    def __init__(
        self,
        *,
        worker_id: str,
        number: int,
        build: str,
        llm_endpoints: tuple[str, ...],
        dial: Callable[[], WorkerStream],
        instance: AgentInstance,
        clock: Clock,
        draining: asyncio.Event,
        redial: timedelta,
    ) -> None:
        self._worker_id = worker_id
        self._instance_id = f"{worker_id}/{number}"
        self._build = build
        self._llm_endpoints = llm_endpoints
        self._dial = dial
        self._instance = instance
        self._clock = clock
        self._draining = draining
        self._redial = redial.total_seconds()
        self._outgoing: asyncio.Queue[frames.WorkerFrame] | None = None
        self._outbox: Outbox | None = None
        self._nonce = 0
        self._lease = timedelta()
        self._permit = timedelta()
        self._refusal: str | None = None
        self._pause = self._redial
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_attached(self) -> bool:
        """Whether an orchestrator has welcomed the slot."""
        return self._outgoing is not None

    @property
    def is_running(self) -> bool:
        """Whether the slot holds a run."""
        return self._outbox is not None

    async def serve(self) -> None:
        """Stay attached until the worker drains and the slot's run has left."""
        async with asyncio.TaskGroup() as works:
            while not (self._draining.is_set() and not self.is_running):
                try:
                    # A task of its own: before Python 3.13 a failed task group leaves its own cancelling counted.
                    await asyncio.create_task(self._attached(works), name="attached")
                except (grpc.RpcError, StreamEnded, TimeoutError, MaruntimeError) as exc:
                    self._note_refusal(exc)
                except Exception:
                    log.exception("slot_failed", instance_id=self._instance_id)  # the other slots go on
                    self._pause = _REFUSED_PAUSE
                if _is_cancelled():
                    raise asyncio.CancelledError
                if self._draining.is_set() and not self.is_running:
                    return
                await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 - only jitter

    async def _attached(self, works: asyncio.TaskGroup) -> None:
        """One stream, from Hello to its end."""
        stream = self._dial()
        held = self._outbox
        try:
            async with asyncio.timeout(_WELCOME_WITHIN):
                asked_at = self._clock.monotonic()
                await stream.send(self._hello(held))
                welcome = await stream.receive()
            if not isinstance(welcome, frames.Welcome):
                raise StreamEnded
            self._refusal = None
            self._outgoing = outgoing = asyncio.Queue()
            self._lease, self._permit = welcome.lease, welcome.permit
            self._take_up(held, welcome, asked_at)
            async with asyncio.TaskGroup() as talk:
                talk.create_task(self._write(stream, outgoing), name="slot_writer")
                talk.create_task(self._beat(welcome.heartbeat.total_seconds()), name="slot_heartbeat")
                talk.create_task(self._read(stream, works), name="slot_reader")
                talk.create_task(self._leave_when_drained(), name="slot_drain")
        except* (grpc.RpcError, StreamEnded, MaruntimeError) as ended:
            raise ended.exceptions[0] from None
        finally:
            self._outgoing = None
            if self._outbox is not None:
                self._outbox.detach()
            stream.cancel()

    def _hello(self, held: Outbox | None) -> frames.Hello:
        template = self._instance.template
        return frames.Hello(
            worker_id=self._worker_id,
            instance_id=self._instance_id,
            build=self._build,
            llm_endpoints=self._llm_endpoints,
            template_version_id=template.id if template else None,
            held=frames.Held(held.run, held.last_acked, 0) if held and not held.is_lost else None,
        )

    def _take_up(self, held: Outbox | None, welcome: frames.Welcome, asked_at: float) -> None:
        """Go on with the run that was held, or let it go."""
        if held is None:
            return
        if self._outbox is not held:
            self._ready()  # the run ended between Hello and Welcome
        elif welcome.held_kept:
            held.attach(self._send, self._send_beat, held_last_commit=welcome.held_last_commit, asked_at=asked_at)
        else:
            held.lose()

    async def _read(self, stream: WorkerStream, works: asyncio.TaskGroup) -> None:
        while True:
            frame = await stream.receive()
            match frame:
                case None:
                    raise StreamEnded
                case frames.Ack():
                    if self._outbox is not None:
                        self._outbox.on_ack(frame)
                case frames.HeartbeatAck():
                    if self._outbox is not None:
                        self._outbox.on_beat_ack(frame)
                case Assignment():
                    self._on_start(frame, works)
                case frames.Pin():
                    self._instance.pin(frame.template)
                case frames.Cancel():
                    if self._outbox is not None and self._outbox.run == frame.run:
                        self._outbox.lose()
                case frames.Drain():
                    self._draining.set()
                case frames.Welcome():
                    raise StreamEnded

    def _on_start(self, assignment: Assignment, works: asyncio.TaskGroup) -> None:
        if self._outbox is not None:
            self._send(frames.Accepted(assignment.run, "busy"))  # Ready follows when it is
            return
        if self._draining.is_set():
            self._send(frames.Accepted(assignment.run, "draining"))
            self._ready()
            return
        self._outbox = Outbox(
            assignment.run,
            last_commit=assignment.last_commit,
            lease=self._lease,
            lease_left=assignment.lease,
            permit=self._permit,
            clock=self._clock,
        )
        self._idle.clear()
        self._outbox.attach(self._send, self._send_beat)
        self._send(frames.Accepted(assignment.run))
        work = works.create_task(self._work(assignment, self._outbox), name="run")
        self._outbox.when_lost(work.cancel)

    async def _work(self, assignment: Assignment, outbox: Outbox) -> None:
        try:
            await self._instance.run(assignment, outbox)
        except asyncio.CancelledError:
            if not outbox.is_lost:
                raise  # the worker stops
        except Exception:
            log.exception("run_crashed", run_id=outbox.run.run_id)  # its lease runs out; the slot serves on
        finally:
            self._instance.reset()
            self._outbox = None
            self._idle.set()
        self._ready()

    def _ready(self) -> None:
        template = self._instance.template
        self._send(frames.Ready(template.id if template else ""))

    async def _write(self, stream: WorkerStream, outgoing: "asyncio.Queue[frames.WorkerFrame]") -> None:
        try:
            while True:
                await stream.send(await outgoing.get())
        except asyncio.InvalidStateError as exc:
            raise StreamEnded from exc  # gRPC's word for it between the end and the reader's noticing

    async def _beat(self, every: float) -> None:
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(every)
            lag = max(0.0, self._clock.monotonic() - before - every)
            self._send_beat(timedelta(seconds=lag))

    async def _leave_when_drained(self) -> None:
        await self._draining.wait()
        self._send(frames.Draining("worker stops"))
        await self._idle.wait()
        raise StreamEnded

    def _send_beat(self, lag: timedelta = timedelta()) -> None:
        self._nonce += 1
        run = None
        if self._outbox is not None and not self._outbox.is_lost:
            run = self._outbox.run
            self._outbox.beat_sent(self._nonce)
        self._send(frames.Heartbeat(self._nonce, run, lag))

    def _send(self, frame: frames.WorkerFrame) -> None:
        if self._outgoing is None:
            return
        if isinstance(frame, TextDelta) and self._outgoing.qsize() >= _DELTAS_WAITING:
            return  # the stream is stuck; the step's message has the whole text
        self._outgoing.put_nowait(frame)

    def _note_refusal(self, exc: Exception) -> None:
        """One line when the reason changes, not one for every dial."""
        status = exc.code() if isinstance(exc, grpc.aio.AioRpcError) else None
        # Who is refused will be refused again: only a lost stream is dialled at once.
        self._pause = _REFUSED_PAUSE if status in _REFUSALS else self._redial
        reason = status.name if status else type(exc).__name__
        if reason != self._refusal:
            self._refusal = reason
            log.info("slot_detached", instance_id=self._instance_id, reason=reason)


def _is_cancelled() -> bool:
    """Whether this task was told to stop. A stream that ends at that moment raises its end instead."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
