"""Heartbeats are stored together, and each learns of its own renewal."""

import asyncio
from datetime import timedelta

import pytest

from maruntime.domain.run import RunRef
from orchestrator.dispatch.renewer import Renewal, Renewer
from tests.unit.orchestrator.dispatch.store import ListJournal

RUNS = [RunRef(f"run_{number}", 1) for number in range(3)]


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
def renewer(journal: ListJournal) -> Renewer:
    return Renewer(journal, every=timedelta(milliseconds=1))


async def test_many_heartbeats_are_one_statement_and_each_learns_its_own_outcome(
    journal: ListJournal, renewer: Renewer
) -> None:
    journal.ours = {RUNS[0], RUNS[2]}
    told: dict[str, bool] = {}
    for run in RUNS:
        renewer.add(Renewal(run, "a1", lambda ok, run=run: told.update({run.run_id: ok})))

    await renewer.flush()

    assert journal.renewals == [[(run, "a1") for run in RUNS]]
    assert told == {"run_0": True, "run_1": False, "run_2": True}


async def test_of_several_heartbeats_of_one_run_the_last_one_counts(journal: ListJournal, renewer: Renewer) -> None:
    journal.ours = {RUNS[0]}
    told: list[int] = []
    for nonce in (1, 2, 3):
        renewer.add(Renewal(RUNS[0], "a1", lambda ok, nonce=nonce: told.append(nonce)))

    await renewer.flush()

    assert (len(journal.renewals[0]), told) == (1, [3])


async def test_nothing_gathered_is_nothing_stored(journal: ListJournal, renewer: Renewer) -> None:
    await renewer.flush()

    assert journal.renewals == []


async def test_a_store_that_is_away_tells_nobody_that_a_run_is_lost(journal: ListJournal, renewer: Renewer) -> None:
    journal.is_away = True
    told: list[bool] = []
    renewer.add(Renewal(RUNS[0], "a1", told.append))

    await renewer.flush()
    journal.is_away = False
    await renewer.flush()

    assert told == []


async def test_a_heartbeat_is_stored_soon(journal: ListJournal, renewer: Renewer) -> None:
    stored = asyncio.Event()
    journal.ours = {RUNS[0]}
    task = asyncio.create_task(renewer.run())

    renewer.add(Renewal(RUNS[0], "a1", lambda ok: stored.set()))

    async with asyncio.timeout(5):
        await stored.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
