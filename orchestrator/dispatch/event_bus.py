"""Tell readers what happens in runs.

Durable events come from Postgres or from this replica's streams, text deltas
from the streams only. Nothing here is a promise: a reader that misses a word
finds it in Postgres, because it knows the number of the event that it wants
next, and once a second the bus looks how far the runs with readers have come.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import structlog

from maruntime.domain.event import RunEvent, TextDelta
from maruntime.errors import ReplicaStopping, StoreUnavailable
from orchestrator.journal.journal import Journal

_QUEUE = 4096
_POLL = 1.0

log = structlog.get_logger()


class Reader:
    """One reader of one run: events in order without a gap, deltas as they come."""

    def __init__(self, run_id: str, after_seq: int, journal: Journal) -> None:
        self.run_id = run_id
        self._journal = journal
        self._seen = after_seq
        self._queue: asyncio.Queue[RunEvent | TextDelta | int] = asyncio.Queue(_QUEUE)
        self._stopped = asyncio.Event()

    @property
    def seen(self) -> int:
        """The number of the last event that was given."""
        return self._seen

    def tell(self, word: RunEvent | TextDelta | int) -> None:
        """Queue an event, a delta, or the number of an event that is known to exist.

        A reader that is too slow loses the word: text stands in the step's
        message, and a lost event is found by its number.
        """
        if not self._queue.full():
            self._queue.put_nowait(word)

    def stop(self) -> None:
        """Let the reader raise `ReplicaStopping` at its next word."""
        self._stopped.set()
        self.tell(0)

    async def words(self, idle: float) -> AsyncIterator[RunEvent | TextDelta | None]:
        """Yield what happens from the wanted place on, without end; None after `idle` seconds of silence.

        Raises:
            ReplicaStopping: the replica is going away; another one goes on from `seen`.
        """
        while True:
            try:
                async with asyncio.timeout(idle):
                    word = await self._queue.get()
            except TimeoutError:
                yield None
                continue
            if self._stopped.is_set():
                raise ReplicaStopping(run_id=self.run_id)
            if isinstance(word, TextDelta):
                yield word
                continue
            seq = word if isinstance(word, int) else word.seq
            if isinstance(word, RunEvent) and seq == self._seen + 1:
                self._seen = seq
                yield word
            elif seq > self._seen:
                async for event in self._from_store():
                    yield event

    async def _from_store(self) -> AsyncIterator[RunEvent]:
        try:
            for event in await self._journal.events_after(self.run_id, self._seen):
                self._seen = event.seq
                yield event
        except StoreUnavailable:
            log.warning("events_unread", run_id=self.run_id)  # the next look finds them


class EventBus:
    """The readers of this replica, by run."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._readers: dict[str, set[Reader]] = defaultdict(set)
        self._is_stopping = False

    def publish(self, words: Iterable[RunEvent | TextDelta]) -> None:
        """Tell the runs' readers."""
        for word in words:
            for reader in self._readers.get(word.run_id, ()):
                reader.tell(word)

    @contextmanager
    def subscribed(self, run_id: str, after_seq: int) -> Iterator[Reader]:
        """Read a run from a place on, for as long as the block lasts."""
        reader = Reader(run_id, after_seq, self._journal)
        self._readers[run_id].add(reader)
        if self._is_stopping:
            reader.stop()
        try:
            yield reader
        finally:
            self._readers[run_id].discard(reader)
            if not self._readers[run_id]:
                del self._readers[run_id]

    def stop(self) -> None:
        """End all readers, and those that still come: the replica is going away."""
        self._is_stopping = True
        for readers in self._readers.values():
            for reader in readers:
                reader.stop()

    @property
    def reader_count(self) -> int:
        """How many readers there are."""
        return sum(len(readers) for readers in self._readers.values())

    async def watch(self) -> None:
        """Look once a second how far the runs with readers have come, for as long as the process lives."""
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self.look()
            except StoreUnavailable:
                log.warning("runs_unread", runs=len(self._readers))
            except Exception:
                log.exception("runs_unread", runs=len(self._readers))

    async def look(self) -> None:
        """Tell every reader the number of the newest event of its run.

        Raises:
            StoreUnavailable: Postgres is away.
        """
        if not self._readers:
            return
        for run_id, last_seq in (await self._journal.last_seqs(list(self._readers))).items():
            for reader in self._readers.get(run_id, ()):
                if last_seq > reader.seen:
                    reader.tell(last_seq)
