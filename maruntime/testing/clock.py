"""A clock that moves only when a test says so."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at a fixed moment and stands still until it is advanced."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 1000.0

    def now(self) -> datetime:
        """The moment, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds; moves with `advance` only."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
