import pytest

from supervisor.errors import SupervisorError
from supervisor.settings import CHECKOUT, Settings


def test_without_wishes_there_are_two_workers_and_the_home_is_in_the_checkout() -> None:
    settings = Settings.from_environ({})

    assert (settings.workers, settings.orchestrators, settings.port) == (2, 1, None)
    assert settings.home == CHECKOUT / ".maruntime"


def test_wishes_are_honoured() -> None:
    settings = Settings.from_environ(
        {"WORKERS": "5", "ORCHESTRATORS": "2", "PORT": "9000", "MARUNTIME_HOME": "/elsewhere"}
    )

    assert (settings.workers, settings.orchestrators, settings.port) == (5, 2, 9000)
    assert str(settings.home) == "/elsewhere"


@pytest.mark.parametrize("environ", [{"PORT": "http"}, {"PORT": "70000"}, {"WORKERS": "-1"}, {"ORCHESTRATORS": "0"}])
def test_a_wish_that_is_no_number_in_range_is_refused_by_name(environ: dict[str, str]) -> None:
    (name,) = environ

    with pytest.raises(SupervisorError, match=f"^{name}="):
        Settings.from_environ(environ)


def test_a_real_model_needs_an_address_and_a_key() -> None:
    address, key = {"OPENAI_BASE_URL": "http://model/v1"}, {"OPENAI_API_KEY": "k"}

    assert Settings.from_environ(address | key).real_model
    assert not Settings.from_environ(address).real_model
    assert not Settings.from_environ(key).real_model


def test_a_throw_away_stack_shares_neither_stores_nor_keys_nor_model_with_the_user() -> None:
    shared = {"DATABASE_URL": "x", "REDIS_URL": "x", "MARUNTIME_API_KEY": "x", "OPENAI_BASE_URL": "x", "PORT": "9000"}
    settings = Settings.from_environ({**shared, "OPENAI_API_KEY": "x", "MARUNTIME_POOL__LEASE": "7"}).throw_away()

    assert not settings.environ.keys() & (shared.keys() - {"PORT"})
    assert settings.environ["MARUNTIME_POOL__LEASE"] == "7"
    assert settings.port is None
    assert not settings.durable
    assert settings.home.name == "itest"
