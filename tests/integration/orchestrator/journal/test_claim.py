"""Claiming: one owner, a new epoch, in the order of the queue (durability.md §2)."""

import asyncio
from datetime import timedelta

import pytest

from maruntime.domain.run import RunRef
from maruntime.errors import Fenced
from maruntime.testing.builders import a_call, a_commit, user
from orchestrator.journal.journal import SlotOffer
from tests.integration.orchestrator.ledger import ALICE, LEASE, Ledger, a_turn, offer


async def test_a_claim_gives_an_owner_a_new_epoch_and_a_lease(ledger: Ledger) -> None:
    turn = await ledger.queued()
    before = await ledger.pool.fetchval("select clock_timestamp()")

    claim = await ledger.journal.claim(offer("w1/0", "a1"))

    row = await ledger.run(turn.run_id)
    assert claim is not None
    assert (claim.run, claim.instance_id, claim.attachment) == (RunRef(turn.run_id, 1), "w1/0", "a1")
    assert claim.session_id == turn.session_id
    assert (row["state"], row["epoch"], row["attempts"]) == ("RUNNING", 1, 1)
    assert (row["owner"], row["last_owner"], row["attachment"]) == ("w1/0", "w1/0", "a1")
    assert LEASE <= row["lease_until"] - before < LEASE + timedelta(seconds=5)


async def test_an_empty_queue_gives_nothing(ledger: Ledger) -> None:
    assert await ledger.journal.claim(offer()) is None


async def test_a_run_is_claimed_once(ledger: Ledger) -> None:
    await ledger.queued()
    await ledger.claimed()

    assert await ledger.journal.claim(offer()) is None


async def test_depth_goes_before_priority_before_age(ledger: Ledger) -> None:
    old, young, urgent, child = [(await ledger.queued()).run_id for _ in range(4)]
    await ledger.put(urgent, priority=5)
    await ledger.put(child, depth=1)

    order = [(await ledger.claimed()).run.run_id for _ in range(4)]

    assert order == [child, urgent, old, young]


async def test_a_run_of_an_endpoint_that_no_free_slot_has_is_left_to_others(ledger: Ledger) -> None:
    await ledger.journal.accept_session(ALICE, ledger.at("elsewhere"), a_turn())
    here = await ledger.queued()

    claim = await ledger.journal.claim(offer(endpoint="main"))
    nothing = await ledger.journal.claim(offer(endpoint="main"))
    there = await ledger.journal.claim(offer(endpoint="elsewhere"))

    assert claim is not None
    assert claim.run.run_id == here.run_id
    assert nothing is None
    assert there is not None


async def test_a_slot_pinned_to_the_version_is_preferred(ledger: Ledger) -> None:
    await ledger.queued()

    claim = await ledger.journal.claim(
        SlotOffer(
            {("main", ledger.template.id): ("w1/pinned", "p"), ("main", "tplv_x"): ("w1/x", "x")},
            {"main": ("w1/any", "a")},
        )
    )

    assert claim is not None
    assert (claim.instance_id, claim.attachment) == ("w1/pinned", "p")


async def test_a_slot_pinned_to_another_version_or_endpoint_is_not_taken_for_a_match(ledger: Ledger) -> None:
    await ledger.queued()

    claim = await ledger.journal.claim(
        SlotOffer(
            {("other", ledger.template.id): ("w1/o", "o"), ("main", "tplv_x"): ("w1/x", "x")}, {"main": ("w1/any", "a")}
        )
    )

    assert claim is not None
    assert claim.instance_id == "w1/any"


async def test_a_run_past_its_deadline_is_never_started(ledger: Ledger) -> None:
    await ledger.queued(deadline=timedelta(seconds=-1))

    assert await ledger.journal.claim(offer()) is None


async def test_a_run_that_is_just_being_claimed_is_skipped_and_not_waited_for(ledger: Ledger) -> None:
    first, second = await ledger.queued(), await ledger.queued()

    async with ledger.pool.acquire() as other, other.transaction():
        await other.execute("select 1 from runs where id = $1 for update", first.run_id)
        async with asyncio.timeout(5):
            claim = await ledger.claimed()

    assert claim.run.run_id == second.run_id


async def test_every_claim_raises_the_epoch(ledger: Ledger) -> None:
    run = await ledger.running()
    await ledger.journal.release(run, "a1")

    again = await ledger.claimed("w2/0", "a2")

    assert again.run == RunRef(run.run_id, 3)  # the release took one, so that the old owner is fenced at once


async def test_many_runs_claimed_at_once_are_each_claimed_exactly_once(ledger: Ledger) -> None:
    queued = {(await ledger.queued()).run_id for _ in range(20)}

    async def claimer(number: int) -> list[str]:
        mine = []
        while claim := await ledger.journal.claim(offer(f"w{number}/0", f"a{number}")):
            assert claim.instance_id == f"w{number}/0"
            mine.append(claim.run.run_id)
        return mine

    async with asyncio.timeout(20):
        claimed = [run for mine in await asyncio.gather(*map(claimer, range(8))) for run in mine]
        while late := await ledger.journal.claim(offer()):  # what was skipped because somebody had it locked
            claimed.append(late.run.run_id)

    assert len(claimed) == 20
    assert set(claimed) == queued
    assert await ledger.pool.fetchval("select count(*) from runs where state = 'RUNNING' and epoch = 1") == 20


async def test_a_snapshot_is_what_an_instance_needs(ledger: Ledger) -> None:
    await ledger.queued(ALICE, user("Hi"), temperature=0.1)
    run = (await ledger.claimed()).run
    call = a_call(ledger.tool, arguments={"at": None})
    await ledger.journal.commit(a_commit(run, 1, counters={"iterations": 1}, calls=(call,)))

    snapshot = await ledger.journal.snapshot(run)

    assert (snapshot.last_commit, snapshot.step_no, snapshot.counters) == (1, 1, {"iterations": 1})
    assert (snapshot.tenant_id, snapshot.principal_id) == ("default", "alice")
    assert snapshot.template_version_id == ledger.template.id
    assert snapshot.transcript == (user("Hi"),)
    assert snapshot.open_calls == (call,)
    assert snapshot.context["llm_parameters"] == {"temperature": 0.1}
    assert LEASE - timedelta(seconds=5) < snapshot.lease_left <= LEASE


@pytest.mark.parametrize("epoch", [0, 2])
async def test_a_snapshot_of_another_epoch_is_fenced(ledger: Ledger, epoch: int) -> None:
    run = await ledger.running()

    with pytest.raises(Fenced):
        await ledger.journal.snapshot(RunRef(run.run_id, epoch))
