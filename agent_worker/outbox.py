"""What an instance says of its run: commits that are stored or fenced, text that may be lost.

The outbox belongs to the run, not to a stream: a commit that was not
acknowledged is sent again, unchanged, on the next stream. One commit is in
flight at a time. It also keeps the two times that make an instance stop by
itself: the lease's deadline and the permit (docs/durability.md, section 2), both
counted from *before* a frame was sent.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from maruntime.clock import Clock
from maruntime.domain.commit import Commit, Verdict
from maruntime.domain.event import TextDelta
from maruntime.domain.run import RunRef
from maruntime.errors import Fenced, MaruntimeError
from maruntime.wire import frames
from maruntime.wire.channel import MAX_MESSAGE_BYTES
from maruntime.wire.codec import worker_frame_size

_COALESCE = 0.004
_ASK_AGAIN = 0.5
_FRAME_LIMIT = MAX_MESSAGE_BYTES - 1024 * 1024

Send = Callable[[frames.WorkerFrame], None]


class CommitUnsendable(MaruntimeError):
    """What the step brought is too large to be stored."""

    code = "result_too_large"


@dataclass(slots=True)
class _InFlight:
    commit: Commit
    stored: asyncio.Future[None]
    sent_at: float | None = None


class Outbox:
    """The way out of one run."""

    def __init__(
        self,
        run: RunRef,
        *,
        last_commit: int,
        lease: timedelta,
        permit: timedelta,
        clock: Clock,
        lease_left: timedelta | None = None,
    ) -> None:
        self.run = run
        self._clock = clock
        self._lease = lease.total_seconds()
        self._permit = permit.total_seconds()
        self._lease_deadline = clock.monotonic() + (lease if lease_left is None else lease_left).total_seconds()
        self._permit_until = clock.monotonic()
        self._acked = last_commit
        self._in_flight: _InFlight | None = None
        self._send: Send | None = None
        self._beats: dict[int, float] = {}
        self._beat_heard = asyncio.Event()
        self._ask_beat: Callable[[], None] = lambda: None
        self._fenced = False
        self._on_lost: Callable[[], object] = lambda: None
        self._step_no = 0
        self._offset = 0
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._flush_at: asyncio.TimerHandle | None = None

    @property
    def last_acked(self) -> int:
        """The number of the last commit that is known to be stored."""
        return self._acked

    @property
    def next_commit_no(self) -> int:
        """The number that the next commit has to carry."""
        return self._acked + 1

    @property
    def is_lost(self) -> bool:
        """Whether somebody else owns the run."""
        return self._fenced

    def when_lost(self, action: Callable[[], object]) -> None:
        """Say what to do as soon as the run is known to be somebody else's."""
        self._on_lost = action

    # --- what the run says

    async def commit(self, commit: Commit) -> None:
        """Have a commit stored; waits, over any number of streams, until it is.

        The lease's deadline is no reason to give up: the store's fence alone
        decides whether the commit is valid.

        Raises:
            Fenced: somebody else owns the run; stop silently.
            CommitUnsendable: it cannot be encoded, or is too large for a frame.
        """
        assert self._in_flight is None, "one commit in flight per run"
        assert commit.commit_no == self.next_commit_no
        self._refuse_if_lost()
        _refuse_unsendable(commit)
        self.flush()
        self._in_flight = _InFlight(commit, asyncio.get_running_loop().create_future())
        try:
            self._transmit()
            await self._in_flight.stored
        finally:
            self._in_flight = None

    def begin_step(self, step_no: int) -> None:
        """Text from here on belongs to this step, from its first character."""
        self.flush()
        self._step_no, self._offset = step_no, 0

    def say(self, *, content: str = "", reasoning: str = "") -> None:
        """Pass on text; pieces that come close together go out as one frame."""
        if content:
            self._content.append(content)
        if reasoning:
            self._reasoning.append(reasoning)
        if self._flush_at is None:
            self._flush_at = asyncio.get_running_loop().call_later(_COALESCE, self.flush)

    def flush(self) -> None:
        """Send the text that waits. Without a stream it is lost: the step's message has it all."""
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        if not self._content and not self._reasoning:
            return
        content, reasoning = "".join(self._content), "".join(self._reasoning)
        self._content.clear()
        self._reasoning.clear()
        if self._send is not None and not self._fenced:
            self._send(TextDelta(self.run.run_id, self.run.epoch, self._step_no, self._offset, content, reasoning))
        self._offset += len(content)

    async def permit(self) -> None:
        """Wait until an external effect may begin.

        It may while the permit is fresh and the lease has not run out. Neither
        says that the run is lost: a heartbeat brings both back, or the news
        that somebody else owns the run.

        Raises:
            Fenced: somebody else owns the run.
        """
        while True:
            self._refuse_if_lost()
            now = self._clock.monotonic()
            if now < self._permit_until and now < self._lease_deadline:
                return
            self._beat_heard.clear()
            self._ask_beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN):
                    await self._beat_heard.wait()

    # --- what the stream says

    def attach(
        self, send: Send, ask_beat: Callable[[], None], *, held_last_commit: int | None = None, asked_at: float = 0.0
    ) -> None:
        """Speak over this stream from now on.

        `held_last_commit` is what the store has, after the instance came back
        with the run: a commit up to it need not be sent again. The lease counts
        from `asked_at`, when the instance said that it holds the run.
        """
        self._send, self._ask_beat = send, ask_beat
        self._beats.clear()
        if held_last_commit is not None:
            self._lease_deadline = max(self._lease_deadline, asked_at + self._lease)
            pending = self._in_flight
            if pending is not None and held_last_commit >= pending.commit.commit_no:
                self._stored(pending)
        self._transmit()
        self._beat_heard.set()

    def detach(self) -> None:
        """The stream has ended; commits wait for the next one."""
        self._send = None
        self._ask_beat = lambda: None

    def on_ack(self, ack: frames.Ack) -> None:
        """Learn what became of the commit in flight."""
        pending = self._in_flight
        if ack.run != self.run or pending is None or ack.commit_no != pending.commit.commit_no:
            return
        match ack.verdict:
            case Verdict.STORED:
                assert pending.sent_at is not None
                self._lease_deadline = max(self._lease_deadline, pending.sent_at + self._lease)
                self._permit_until = max(self._permit_until, pending.sent_at + self._permit)
                self._stored(pending)
            case Verdict.FENCED:
                self.lose()
            case Verdict.RETRY:
                asyncio.get_running_loop().call_later(ack.retry.total_seconds(), self._transmit_again, pending)

    def beat_sent(self, nonce: int) -> None:
        """Remember when a heartbeat with this run was sent."""
        self._beats[nonce] = self._clock.monotonic()

    def on_beat_ack(self, ack: frames.HeartbeatAck) -> None:
        """Learn from the answer to a heartbeat."""
        sent_at = self._beats.get(ack.nonce)
        if sent_at is None:
            return
        if not ack.still_yours:
            self.lose()
            return
        self._permit_until = max(self._permit_until, sent_at + self._permit)
        renewed_at = self._beats.get(ack.renewed_nonce)
        if renewed_at is not None:
            self._lease_deadline = max(self._lease_deadline, renewed_at + self._lease)
            self._beats = {nonce: at for nonce, at in self._beats.items() if nonce >= ack.renewed_nonce}
        now = self._clock.monotonic()
        if now < self._permit_until and now < self._lease_deadline:
            self._beat_heard.set()

    def lose(self) -> None:
        """Somebody else owns the run: whatever waits here is fenced."""
        if self._fenced:
            return
        self._fenced = True
        pending = self._in_flight
        if pending is not None and not pending.stored.done():
            pending.stored.set_exception(Fenced(run_id=self.run.run_id))
        self._beat_heard.set()
        self._on_lost()

    def _refuse_if_lost(self) -> None:
        if self._fenced:
            raise Fenced(run_id=self.run.run_id)

    def _stored(self, pending: _InFlight) -> None:
        if not pending.stored.done():
            self._acked = pending.commit.commit_no
            pending.stored.set_result(None)

    def _transmit(self) -> None:
        pending = self._in_flight
        if pending is not None and self._send is not None and not pending.stored.done():
            if pending.sent_at is None:
                # Of a frame that is sent again, the first may be the one that was stored.
                pending.sent_at = self._clock.monotonic()
            self._send(pending.commit)

    def _transmit_again(self, pending: _InFlight) -> None:
        if self._in_flight is pending:
            self._transmit()


def _refuse_unsendable(commit: Commit) -> None:
    """A frame that the stream cannot carry would end it, and be sent again on the next one for ever."""
    try:
        size = worker_frame_size(commit)
    except (ValueError, TypeError) as exc:
        raise CommitUnsendable("What the step brought cannot be stored") from exc
    if size > _FRAME_LIMIT:
        raise CommitUnsendable
