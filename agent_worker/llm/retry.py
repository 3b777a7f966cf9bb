"""Try a call again when that can help: a bounded number of times, never past the deadline.

Exponential back-off with full jitter; a provider's `Retry-After` is a floor,
itself capped. Each retry is logged. Time, sleep and chance are passed in.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agent_worker.llm.errors import LLMError
from maruntime.clock import Clock

log = structlog.get_logger(__name__)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to try again and how long to pause before."""

    retries: int = 3
    first_pause: float = 0.5
    longest_pause: float = 8.0
    longest_retry_after: float = 30.0

    def pause(self, failures: int, error: LLMError, chance: random.Random) -> float:
        """Seconds to wait after the `failures`-th failure in a row."""
        ceiling = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 32))
        if error.retry_after is None:
            return chance.uniform(0.0, ceiling)
        return min(error.retry_after, self.longest_retry_after) + chance.uniform(0.0, self.first_pause)


class Retrying:
    """A policy bound to what tells the time, sleeps and throws dice."""

    def __init__(self, policy: RetryPolicy, *, clock: Clock, sleep: Sleep, chance: random.Random) -> None:
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._chance = chance

    async def call(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        deadline: float,
        before_retry: Callable[[], None],
        endpoint: str,
    ) -> T:
        """The result of the first attempt that succeeds; the last error if none does.

        `deadline` is on the clock's monotonic scale. `before_retry` is called as
        soon as it is decided to try again, before the pause.
        """
        failures = 0
        while True:
            try:
                return await attempt()
            except LLMError as error:
                failures += 1
                pause = self._pause_after(failures, error, deadline)
                log.warning(
                    "llm_attempt_failed",
                    endpoint=endpoint,
                    attempt=failures,
                    code=error.code,
                    reason=error.reason or error.message,
                    retried=pause is not None,
                )
                if pause is None:
                    raise
            before_retry()
            await self._sleep(pause)

    def _pause_after(self, failures: int, error: LLMError, deadline: float) -> float | None:
        if not error.retryable or failures > self._policy.retries:
            return None
        pause = self._policy.pause(failures, error, self._chance)
        return pause if self._clock.monotonic() + pause < deadline else None
