"""Who may call: hashes only, scopes, revocation at once, rotation by the environment."""

import hashlib
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.principal import Scope
from maruntime.errors import KeyInvalid, KeyMissing, KeyNotFound, ScopeMissing
from maruntime.testing.clock import FakeClock
from orchestrator.security.api_keys import ApiKeys, GivenKey


@pytest.fixture
def keys(maker: async_sessionmaker[AsyncSession], clock: FakeClock) -> ApiKeys:
    return ApiKeys(maker, clock, fresh_for=timedelta(seconds=5))


async def test_a_new_key_speaks_for_its_principal(keys: ApiKeys) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], "alice")

    principal = await keys.authenticate(key, Scope.CHAT)

    assert (principal.tenant_id, principal.principal_id, principal.key_id) == ("default", "alice", key_id)
    assert principal.scopes == {Scope.CHAT}


async def test_only_the_hash_of_a_key_is_in_the_database(keys: ApiKeys, pool: asyncpg.Pool) -> None:
    _, _, key = await keys.create("default", "mine", [Scope.CHAT], None)
    await keys.take_from_environment([GivenKey("ADMIN_API_KEY", "the-admins-own-key", frozenset({Scope.ADMIN}))])

    rows = await pool.fetch("select to_jsonb(k) as row, key_hash from api_keys k")

    assert hashlib.sha256(key.encode()).digest() in [row["key_hash"] for row in rows]
    told = str([row["row"] for row in rows])
    assert key not in told
    assert key.removeprefix("mrt_") not in told
    assert "the-admins-own-key" not in told


async def test_what_is_shown_of_keys_names_no_hash(keys: ApiKeys) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], None)
    await keys.create("other", "theirs", [Scope.CHAT], None)

    (shown,) = await keys.all_of("default")

    assert (shown["id"], shown["name"], shown["scopes"], shown["revoked_at"]) == (key_id, "mine", ["chat"], None)
    assert "key_hash" not in shown
    assert key not in str(shown)


@pytest.mark.parametrize("nothing", [None, ""])
async def test_no_key_is_told_apart_from_a_wrong_one(keys: ApiKeys, nothing: str | None) -> None:
    with pytest.raises(KeyMissing):
        await keys.authenticate(nothing, Scope.CHAT)
    with pytest.raises(KeyInvalid):
        await keys.authenticate("mrt_wrong", Scope.CHAT)


@pytest.mark.parametrize("needed", list(Scope))
async def test_a_key_may_do_what_its_scopes_say(keys: ApiKeys, needed: Scope) -> None:
    _, _, key = await keys.create("default", "mine", set(Scope) - {needed}, None)

    for scope in Scope:
        if scope is needed:
            with pytest.raises(ScopeMissing):
                await keys.authenticate(key, scope)
        else:
            assert (await keys.authenticate(key, scope)).has(scope)


async def test_a_revoked_key_is_refused_at_once(keys: ApiKeys) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], None)
    await keys.authenticate(key, Scope.CHAT)

    await keys.revoke("default", key_id)

    with pytest.raises(KeyInvalid):
        await keys.authenticate(key, Scope.CHAT)


async def test_a_key_revoked_by_another_replica_is_refused_within_seconds(
    keys: ApiKeys, maker: async_sessionmaker[AsyncSession], clock: FakeClock
) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], None)
    await keys.authenticate(key, Scope.CHAT)
    await ApiKeys(maker, clock).revoke("default", key_id)

    clock.advance(4.9)
    await keys.authenticate(key, Scope.CHAT)
    clock.advance(0.2)

    with pytest.raises(KeyInvalid):
        await keys.authenticate(key, Scope.CHAT)


async def test_a_key_of_another_tenant_or_a_revoked_one_cannot_be_revoked(keys: ApiKeys) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], None)

    with pytest.raises(KeyNotFound):
        await keys.revoke("other", key_id)
    await keys.authenticate(key, Scope.CHAT)
    await keys.revoke("default", key_id)
    with pytest.raises(KeyNotFound):
        await keys.revoke("default", key_id)


async def test_a_second_key_of_a_principal_lets_the_first_be_rotated_out(keys: ApiKeys) -> None:
    first_id, owner, _ = await keys.create("default", "old", [Scope.CHAT], None)

    _, _, second = await keys.create("default", "new", [Scope.CHAT], owner)
    await keys.revoke("default", first_id)

    assert (await keys.authenticate(second, Scope.CHAT)).principal_id == owner


async def test_a_key_that_left_the_environment_is_valid_no_longer(keys: ApiKeys, clock: FakeClock) -> None:
    internal = GivenKey("INTERNAL_API_KEY", "internal", frozenset({Scope.CHAT}))
    await keys.take_from_environment([GivenKey("ADMIN_API_KEY", "first-value", frozenset({Scope.ADMIN})), internal])
    await keys.authenticate("first-value", Scope.ADMIN)

    await keys.take_from_environment([GivenKey("ADMIN_API_KEY", "second-value", frozenset({Scope.ADMIN})), internal])
    clock.advance(6)

    with pytest.raises(KeyInvalid):
        await keys.authenticate("first-value", Scope.ADMIN)
    admin = await keys.authenticate("second-value", Scope.ADMIN)
    assert admin.principal_id == (await keys.authenticate("internal", Scope.CHAT)).principal_id


async def test_two_values_of_one_variable_are_both_valid_while_a_key_is_rotated(keys: ApiKeys) -> None:
    given = [GivenKey("MARUNTIME_API_KEY", value, frozenset({Scope.CHAT})) for value in ("old", "new")]

    await keys.take_from_environment(given)

    for value in ("old", "new"):
        assert (await keys.authenticate(value, Scope.CHAT)).has(Scope.CHAT)


async def test_one_key_under_two_names_has_the_scopes_of_both(keys: ApiKeys) -> None:
    await keys.take_from_environment(
        [
            GivenKey("ADMIN_API_KEY", "same", frozenset({Scope.ADMIN})),
            GivenKey("INTERNAL_API_KEY", "same", frozenset({Scope.CHAT})),
        ]
    )

    assert (await keys.authenticate("same", Scope.ADMIN)).scopes == {Scope.ADMIN, Scope.CHAT}


async def test_a_former_value_from_the_environment_may_come_back_with_new_scopes(keys: ApiKeys) -> None:
    for value, scope in (("one", Scope.CHAT), ("two", Scope.CHAT), ("one", Scope.ADMIN)):
        await keys.take_from_environment([GivenKey("MARUNTIME_API_KEY", value, frozenset({scope}))])

    assert (await keys.authenticate("one", Scope.ADMIN)).scopes == {Scope.ADMIN}
    with pytest.raises(KeyInvalid):
        await keys.authenticate("two", Scope.CHAT)


async def test_taking_in_the_same_environment_again_makes_no_second_key(keys: ApiKeys) -> None:
    for _ in range(3):
        await keys.take_from_environment([GivenKey("MARUNTIME_API_KEY", "same", frozenset({Scope.CHAT}))])

    assert len(await keys.all_of("default")) == 1


async def test_an_empty_environment_revokes_its_former_keys_and_no_others(keys: ApiKeys) -> None:
    _, _, mine = await keys.create("default", "mine", [Scope.CHAT], None)
    await keys.take_from_environment([GivenKey("MARUNTIME_API_KEY", "theirs", frozenset({Scope.CHAT}))])

    await keys.take_from_environment([])

    await keys.authenticate(mine, Scope.CHAT)
    with pytest.raises(KeyInvalid):
        await keys.authenticate("theirs", Scope.CHAT)


async def test_an_operators_key_is_not_changed_by_the_same_text_in_the_environment(keys: ApiKeys) -> None:
    key_id, _, key = await keys.create("default", "mine", [Scope.CHAT], "alice")
    await keys.revoke("default", key_id)

    await keys.take_from_environment([GivenKey("MARUNTIME_API_KEY", key, frozenset({Scope.ADMIN}))])

    with pytest.raises(KeyInvalid):
        await keys.authenticate(key, Scope.ADMIN)
