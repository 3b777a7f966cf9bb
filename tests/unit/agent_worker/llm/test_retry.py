import random

import pytest
import structlog

from agent_worker.llm.errors import LLMRefused, LLMUnavailable
from agent_worker.llm.retry import Retrying, RetryPolicy
from maruntime.testing.clock import FakeClock


class Scene:
    """A call that fails as told, on a clock that only sleeping moves."""

    def __init__(self, *failures, policy=RetryPolicy()):  # noqa: B008
        self.failures = list(failures)
        self.clock = FakeClock()
        self.log = []
        self.retrying = Retrying(policy, clock=self.clock, sleep=self.sleep, chance=random.Random(1))

    async def sleep(self, seconds):
        self.log.append(seconds)
        self.clock.advance(seconds)

    async def attempt(self):
        self.log.append("attempt")
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    async def run(self, *, within=1000.0):
        deadline = self.clock.monotonic() + within
        with structlog.testing.capture_logs():
            return await self.retrying.call(
                self.attempt, deadline=deadline, before_retry=lambda: self.log.append("retry"), endpoint="e"
            )


async def test_the_caller_is_told_before_the_pause():
    scene = Scene(LLMUnavailable(retry_after=2.0), policy=RetryPolicy(first_pause=0.0))

    assert await scene.run() == "done"
    assert scene.log == ["attempt", "retry", 2.0, "attempt"]


async def test_what_will_not_help_is_not_tried_again():
    scene = Scene(LLMRefused())

    with pytest.raises(LLMRefused):
        await scene.run()

    assert scene.log == ["attempt"]


async def test_the_last_error_is_the_one_that_is_raised():
    last = LLMUnavailable("last")
    scene = Scene(LLMUnavailable(), LLMUnavailable(), last, policy=RetryPolicy(retries=2))

    with pytest.raises(LLMUnavailable) as caught:
        await scene.run()

    assert caught.value is last


async def test_a_retry_that_would_start_past_the_deadline_is_not_made():
    scene = Scene(LLMUnavailable(retry_after=5.0))

    with pytest.raises(LLMUnavailable):
        await scene.run(within=5.0)

    assert scene.log == ["attempt"]


def test_pauses_grow_to_a_ceiling_and_are_jittered_in_full():
    policy, chance = RetryPolicy(), random.Random(3)

    for failures, ceiling in [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (5000, 8.0)]:
        pauses = [policy.pause(failures, LLMUnavailable(), chance) for _ in range(500)]
        assert 0 <= min(pauses) < ceiling * 0.1
        assert ceiling * 0.9 < max(pauses) <= ceiling


def test_a_long_retry_after_is_capped():
    pause = RetryPolicy().pause(1, LLMUnavailable(retry_after=3600.0), random.Random(1))

    assert 30 <= pause <= 30.5
