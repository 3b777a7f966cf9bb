"""What the orchestrator refuses to start with."""

import os
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from orchestrator.settings import FabricSettings, OrchestratorSettings, is_loopback

DATABASE = "postgresql://maruntime@127.0.0.1/maruntime"
PAIR = {"tls_certificate": "cert.pem", "tls_key": "key.pem"}
OTHERS = ("DATABASE_URL", "REDIS_URL", "ADMIN_API_KEY", "INTERNAL_API_KEY")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OrchestratorSettings]:
    """Only what the test says."""
    for name in os.environ:
        if name.upper().startswith("MARUNTIME_") or name.upper() in OTHERS:
            monkeypatch.delenv(name)

    def say(**variables: str) -> OrchestratorSettings:
        for name, value in {"DATABASE_URL": DATABASE, **variables}.items():
            monkeypatch.setenv(name, value)
        return OrchestratorSettings()  # type: ignore[call-arg]

    return say


# --- workers dial in


@pytest.mark.parametrize(
    "given",
    [
        {"tls_certificate": "cert.pem"},
        {"tls_key": "key.pem"},
        {"tls_key": "key.pem", "tls_client_ca": "ca.pem"},
        {"tls_certificate": "cert.pem", "host": "0.0.0.0"},
    ],
)
def test_a_certificate_and_its_key_belong_together(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="belong together"):
        FabricSettings.model_validate(given)


def test_certificates_of_workers_can_be_checked_over_tls_only() -> None:
    """Otherwise an operator believes that workers show one."""
    with pytest.raises(ValidationError, match="tls_client_ca needs"):
        FabricSettings(tls_client_ca="ca.pem")

    assert FabricSettings.model_validate({"tls_client_ca": "ca.pem", **PAIR}).is_encrypted


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "orchestrator", "localhost.example", ""])
def test_other_machines_may_dial_in_over_tls_only(host: str) -> None:
    with pytest.raises(ValidationError, match="from other machines only with"):
        FabricSettings(host=host)

    assert not is_loopback(host)
    assert FabricSettings.model_validate({"host": host, **PAIR}).is_encrypted


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_may_dial_in_without(host: str) -> None:
    assert not FabricSettings(host=host).is_encrypted
    assert FabricSettings.model_validate({"host": host, **PAIR}).is_encrypted


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"permit": 1}, "permit must be shorter than reattach_grace"),
        ({"lease": 14}, "three heartbeats must fit into a lease"),
        ({"heartbeat": 5.1}, "three heartbeats must fit into a lease"),
    ],
)
def test_times_under_which_two_owners_could_act_are_refused(given: dict[str, float], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FabricSettings.model_validate(given)


# --- the environment


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_known_log_level_is_taken(environment: Callable[..., OrchestratorSettings], level: str) -> None:
    assert environment(MARUNTIME_LOG_LEVEL=level).log_level == level


@pytest.mark.parametrize("level", ["loud", "notset", "INFO", "10"])
def test_any_other_log_level_is_refused_at_start(environment: Callable[..., OrchestratorSettings], level: str) -> None:
    with pytest.raises(ValidationError) as caught:
        environment(MARUNTIME_LOG_LEVEL=level)

    assert [error["loc"] for error in caught.value.errors()] == [("log_level",)]


def test_what_is_empty_is_absent(environment: Callable[..., OrchestratorSettings]) -> None:
    """Compose hands over `REDIS_URL: ${REDIS_URL:-}`."""
    names = (
        "REDIS_URL ADMIN_API_KEY INTERNAL_API_KEY MARUNTIME_API_KEY MARUNTIME_JOIN_TOKEN MARUNTIME_LOG_LEVEL "
        "MARUNTIME_FABRIC__HOST MARUNTIME_FABRIC__TLS_CERTIFICATE MARUNTIME_FABRIC__TLS_KEY MARUNTIME_HTTP__PORT"
    )

    assert environment(**dict.fromkeys(names.split(), "")) == environment()


def test_an_empty_address_of_the_database_is_a_missing_one(environment: Callable[..., OrchestratorSettings]) -> None:
    with pytest.raises(ValidationError) as caught:
        environment(DATABASE_URL="")

    assert [(error["loc"], error["type"]) for error in caught.value.errors()] == [(("DATABASE_URL",), "missing")]


def test_groups_are_read_from_the_environment(environment: Callable[..., OrchestratorSettings]) -> None:
    settings = environment(
        MARUNTIME_FABRIC__HOST="0.0.0.0",
        MARUNTIME_FABRIC__TLS_CERTIFICATE="cert.pem",
        MARUNTIME_FABRIC__TLS_KEY="key.pem",
    )

    assert (settings.fabric.tls_certificate, settings.fabric.tls_key) == ("cert.pem", "key.pem")
    with pytest.raises(ValidationError, match="belong together"):
        environment(MARUNTIME_FABRIC__TLS_KEY="")
