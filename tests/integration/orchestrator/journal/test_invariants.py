"""What must hold whatever happens in whatever order (durability.md §8, invariants 4 and 7)."""

import asyncio
import random
import re
from collections import Counter

import pytest

from maruntime.domain.commit import CallState, End, EndKind, Verdict
from maruntime.domain.run import RUN_TRANSITIONS, Failure, RunRef, RunState, WaitingFor
from maruntime.errors import Fenced, SessionBusy
from maruntime.testing.builders import a_call, a_commit, an_event
from orchestrator.journal import statements
from orchestrator.persistence.audit import Actor
from tests.integration.orchestrator.ledger import ALICE, MAX_ATTEMPTS, Ledger, a_turn, offer


class Owner:
    """A worker's view of the run: it commits in its own epoch for as long as it believes in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.attachment = name
        self.run: RunRef | None = None
        self.commit_no = 0
        self.sent: list[int] = []


@pytest.mark.parametrize("seed", range(12))
async def test_two_owners_never_commit_in_one_epoch_and_numbers_stay_dense(ledger: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    run_id = (await ledger.queued()).run_id
    await ledger.put(run_id, attempts=-1000)
    owners = [Owner("w1/0"), Owner("w2/0")]
    written: list[tuple[int, int, str]] = []  # epoch, commit, owner

    async def commit(owner: Owner) -> None:
        if owner.run is None:
            return
        resend = owner.sent and chance.random() < 0.3
        number = chance.choice(owner.sent) if resend else owner.commit_no + 1
        count = chance.randrange(3)
        told = await ledger.journal.commit(
            a_commit(owner.run, number, events=tuple(an_event(by=owner.name) for _ in range(count)))
        )
        if told.verdict is Verdict.FENCED:
            owner.run = None
        elif number > owner.commit_no:
            owner.commit_no = number
            owner.sent.append(number)
            written.append((owner.run.epoch, number, owner.name))

    async def claim(owner: Owner) -> None:
        claimed = await ledger.journal.claim(offer(owner.name, owner.attachment))
        if claimed is None:
            return
        try:
            owner.commit_no = (await ledger.journal.snapshot(claimed.run)).last_commit
        except Fenced:
            return  # swept between the claim and its snapshot: the dispatcher gives up likewise
        owner.run = claimed.run
        owner.sent = []

    async def renew(owner: Owner) -> None:
        if owner.run is not None:
            await ledger.journal.renew([(owner.run, owner.attachment)])

    async def reattach(owner: Owner) -> None:
        if owner.run is not None:
            owner.attachment = f"{owner.name} {chance.random()}"
            await ledger.journal.reattach(owner.run, owner=owner.name, attachment=owner.attachment)

    async def release(owner: Owner) -> None:
        if owner.run is not None:
            await ledger.journal.release(owner.run, owner.attachment)

    async def lose(owner: Owner) -> None:
        await ledger.pool.execute(
            "update runs set lease_until = now() - interval '1 second' where id = $1 and state = 'RUNNING'", run_id
        )
        await ledger.journal.sweep_leases()

    for _ in range(30):
        acts = chance.choices([commit, claim, renew, reattach, release, lose], [6, 3, 1, 1, 1, 1], k=2)
        async with asyncio.timeout(5):
            await asyncio.gather(*(act(owner) for act, owner in zip(acts, owners, strict=True)))

    story = f"seed {seed}: {written}"
    events = await ledger.pool.fetch("select * from run_events where run_id = $1 order by seq", run_id)
    row = await ledger.run(run_id)
    assert [event["seq"] for event in events] == list(range(1, row["last_seq"] + 1)), story
    assert [event["epoch"] for event in events] == sorted(event["epoch"] for event in events), story
    owners_of = {epoch: {by for e, _, by in written if e == epoch} for epoch, _, _ in written}
    assert all(len(names) == 1 for names in owners_of.values()), story
    said_in = {(event["epoch"], event["payload"]["by"]) for event in events if "by" in event["payload"]}
    assert all(names == {name} for epoch, name in said_in if (names := owners_of.get(epoch))), story
    assert max(Counter(number for _, number, _ in written).values(), default=1) == 1, story
    assert [number for _, number, _ in sorted(written)] == list(range(1, row["commit_no"] + 1)), story


MOVES: dict[str, set[tuple[str, str]]] = {
    "ACCEPT_SESSION": set(),
    "ACCEPT_RUN": set(),
    "ACCEPT_ANSWER": {("WAITING", "QUEUED")},
    "CLAIM": {("QUEUED", "RUNNING")},
    "COMMIT": {("RUNNING", state) for state in ("RUNNING", "QUEUED", "WAITING", "COMPLETED", "FAILED")},
    "RENEW": set(),
    "REATTACH": set(),
    "RELEASE": {("RUNNING", "QUEUED"), ("RUNNING", "DEAD")},
    "SWEEP_LEASES": {("RUNNING", "QUEUED"), ("RUNNING", "FAILED"), ("RUNNING", "DEAD")},
    "SWEEP_DEADLINES": {("QUEUED", "EXPIRED"), ("WAITING", "EXPIRED")},
    "CLOSE_SESSION": {("QUEUED", "CANCELLED"), ("RUNNING", "CANCELLED"), ("WAITING", "CANCELLED")},
    "CANCEL_RUN": {("QUEUED", "CANCELLED"), ("RUNNING", "CANCELLED"), ("WAITING", "CANCELLED")},
}
"""What each statement does to a run's state; the moves that are seen below are compared with it."""


def test_the_table_of_moves_names_every_statement_that_writes_a_run() -> None:
    writes = re.compile(r"(update|insert into) runs\b")
    writers = {name for name, text in vars(statements).items() if name.isupper() and writes.search(str(text))}

    assert writers == MOVES.keys()


def test_the_moves_of_all_statements_are_the_table_of_transitions() -> None:
    made = {(now, then) for moves in MOVES.values() for now, then in moves if now != then}

    assert made == {(now.value, then.value) for now, all_then in RUN_TRANSITIONS.items() for then in all_then}


@pytest.mark.parametrize("now", list(RunState))
async def test_no_statement_moves_a_run_in_a_way_that_the_table_does_not_know(ledger: Ledger, now: RunState) -> None:
    """Every statement is tried on a run in every state; what each changes is compared with `MOVES`."""
    for name, moves in MOVES.items():
        for variant in _variants(name):
            turn = await ledger.queued()
            await ledger.put(turn.run_id, **_columns(now))

            await _try(ledger, name, variant, turn.run_id, turn.session_id)

            then = (await ledger.run(turn.run_id))["state"]
            assert then == now.value or (now.value, then) in moves, f"{name} {variant}: {now} became {then}"
            assert then == now.value or RunState(then) in RUN_TRANSITIONS[now]
            await ledger.pool.execute("delete from sessions")


@pytest.mark.parametrize(("name", "now", "then"), sorted((n, a, b) for n, moves in MOVES.items() for a, b in moves))
async def test_every_move_of_the_table_is_made(ledger: Ledger, name: str, now: str, then: str) -> None:
    turn = await ledger.queued()
    await ledger.put(turn.run_id, **_columns(RunState(now)))
    seen = set()
    for variant in _variants(name):
        await ledger.put(turn.run_id, **_columns(RunState(now)))
        await _try(ledger, name, variant, turn.run_id, turn.session_id)
        seen.add((await ledger.run(turn.run_id))["state"])
        await ledger.pool.execute("delete from tool_executions")

    assert then in seen


def _columns(state: RunState) -> dict[str, object]:
    """A run as it stands in a state: everything that lets a statement act on it, if it would."""
    running, is_waiting = state is RunState.RUNNING, state is RunState.WAITING
    return {
        "state": state.value,
        "owner": "w1/0" if running else None,
        "attachment": "a1" if running else None,
        "waiting_for": "clarification" if is_waiting else None,
        "epoch": 1,
        "commit_no": 0,
        "attempts": 0,
    }


def _variants(name: str) -> list[object]:
    return {
        "COMMIT": ["RUNNING", "COMPLETED", "FAILED", "WAITING", "RELEASED"],
        "RELEASE": ["fresh", "tired"],
        "SWEEP_LEASES": ["fresh", "tired", "calling"],
    }.get(name, [None])


async def _try(ledger: Ledger, name: str, variant: object, run_id: str, session_id: str) -> None:
    journal, run = ledger.journal, RunRef(run_id, 1)
    if variant == "tired":
        await ledger.put(run_id, attempts=MAX_ATTEMPTS)
    if variant == "calling":
        await ledger.pool.execute(
            "insert into tool_executions (run_id, step_no, call_idx, call_id, tool_name, tool_version_id, effect_class,"
            " arguments, state, epoch) values ($1, 1, 0, 'c', 'look', $2, 'pure', '{}', $3, 1)",
            run_id,
            a_call(ledger.tool).tool_version_id,
            CallState.STARTED.value,
        )
    match name:
        case "ACCEPT_RUN" | "ACCEPT_ANSWER":
            try:
                if name == "ACCEPT_RUN":
                    await journal.accept_run(ALICE, session_id, ledger.template, a_turn())
                else:
                    await journal.accept_answer(ALICE, session_id, a_turn())
            except SessionBusy:
                pass
        case "CLAIM":
            await journal.claim(offer())
        case "COMMIT":
            end = None
            if variant != "RUNNING":
                kind = EndKind(str(variant))
                asks = WaitingFor.CLARIFICATION if kind is EndKind.WAITING else None
                end = End(kind, asks, Failure("x", "x") if kind is EndKind.FAILED else None)
            await journal.commit(a_commit(run, 1, end=end))
        case "RENEW":
            await journal.renew([(run, "a1")])
        case "REATTACH":
            await journal.reattach(run, owner="w1/0", attachment="a1")
        case "RELEASE":
            await journal.release(run, "a1")
        case "SWEEP_LEASES":
            await ledger.pool.execute("update runs set lease_until = now() - interval '1 second'")
            await journal.sweep_leases()
        case "SWEEP_DEADLINES":
            await ledger.pool.execute(
                "update runs set deadline = now() - interval '1 s', waiting_until = now() - interval '1 s'"
            )
            await journal.sweep_deadlines()
        case "CLOSE_SESSION":
            await journal.close_session(ALICE, session_id)
        case "CANCEL_RUN":
            await journal.cancel_run(Actor.from_principal(ALICE, "req-1"), session_id)
