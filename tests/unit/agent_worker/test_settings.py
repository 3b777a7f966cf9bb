import os

import pytest
from pydantic import ValidationError

from agent_worker.settings import WorkerSettings

TOKEN = "a-join-token-of-a-test"


@pytest.fixture
def environment(monkeypatch):
    """Only what the test says."""
    for name in os.environ:
        if name.upper().startswith(("MARUNTIME_", "OPENAI_")):
            monkeypatch.delenv(name)

    def say(**variables):
        for name, value in {"MARUNTIME_JOIN_TOKEN": TOKEN, **variables}.items():
            monkeypatch.setenv(name, value)
        return WorkerSettings()

    return say


def test_openais_own_variables_make_the_main_endpoint(environment):
    settings = environment(OPENAI_API_KEY="sk-1", OPENAI_BASE_URL="http://llm/v1", OPENAI_MODEL="m")

    (main,) = settings.endpoints.values()
    assert list(settings.endpoints) == ["main"]
    assert (main.base_url, main.api_key.get_secret_value(), main.model) == ("http://llm/v1", "sk-1", "m")


def test_more_endpoints_are_named_in_the_environment(environment):
    settings = environment(
        OPENAI_API_KEY="sk-1",
        MARUNTIME_LLM__FAST__BASE_URL="http://fast/v1",
        MARUNTIME_LLM__FAST__API_KEY="sk-2",
        MARUNTIME_LLM__FAST__MODEL="f",
        MARUNTIME_LLM__FAST__RETRIES="0",
    )

    assert list(settings.endpoints) == ["main", "fast"]
    assert (settings.endpoints["fast"].model, settings.endpoints["fast"].retries) == ("f", 0)


def test_the_main_endpoint_can_be_spelled_out(environment):
    settings = environment(
        OPENAI_API_KEY="sk-1",
        MARUNTIME_LLM__MAIN__BASE_URL="http://own/v1",
        MARUNTIME_LLM__MAIN__API_KEY="sk-2",
        MARUNTIME_LLM__MAIN__MODEL="o",
    )

    assert settings.endpoints["main"].base_url == "http://own/v1"


@pytest.mark.parametrize("variables", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_BASE_URL": "http://llm/v1"}])
def test_a_worker_without_an_endpoint_is_refused_and_told_what_to_set(environment, variables):
    with pytest.raises(ValidationError) as caught:
        environment(**variables)

    assert "no model endpoint: set OPENAI_API_KEY, or MARUNTIME_LLM__<name>__BASE_URL" in str(caught.value)


def test_an_endpoint_without_its_model_is_refused(environment):
    with pytest.raises(ValidationError) as caught:
        environment(MARUNTIME_LLM__FAST__BASE_URL="http://fast/v1", MARUNTIME_LLM__FAST__API_KEY="sk-2")

    assert caught.value.errors()[0]["loc"] == ("llm", "fast", "model")


@pytest.mark.parametrize("token", ["", "short"])
def test_a_token_that_is_too_short_is_refused(environment, token):
    with pytest.raises(ValidationError) as caught:
        environment(OPENAI_API_KEY="sk-1", MARUNTIME_JOIN_TOKEN=token)

    assert caught.value.errors(include_input=False)[0]["loc"] == ("join_token",)


def test_what_is_empty_is_absent(environment):
    settings = environment(OPENAI_API_KEY="sk-1", OPENAI_BASE_URL="", OPENAI_MODEL="", MARUNTIME_WORKER__SLOTS="")

    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert settings.worker.slots == 32


def test_secrets_are_not_shown(environment):
    settings = environment(
        OPENAI_API_KEY="sk-one",
        MARUNTIME_LLM__FAST__BASE_URL="http://fast/v1",
        MARUNTIME_LLM__FAST__API_KEY="sk-two",
        MARUNTIME_LLM__FAST__MODEL="f",
    )

    shown = repr(settings) + str(settings) + repr(settings.endpoints) + settings.model_dump_json()
    assert not [secret for secret in ("sk-one", "sk-two", TOKEN) if secret in shown]


# --- where to dial


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("127.0.0.1:8001", "ipv4:127.0.0.1:8001"),
        ("127.0.0.1:8001,127.0.0.2:8002", "ipv4:127.0.0.1:8001,127.0.0.2:8002"),
        (" 127.0.0.1:8001 , 127.0.0.2:8002,", "ipv4:127.0.0.1:8001,127.0.0.2:8002"),
        ("localhost:8001", "dns:///localhost:8001"),
        ("[::1]:8001", "dns:///[::1]:8001"),
    ],
)
def test_addresses_of_this_machine_are_dialled_without_tls(environment, said, target):
    settings = environment(OPENAI_API_KEY="sk-1", MARUNTIME_WORKER__ORCHESTRATORS=said)

    assert settings.worker.target == target


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("orchestrator:8001", "dns:///orchestrator:8001"),
        ("tasks.my_stack-1.internal:8001", "dns:///tasks.my_stack-1.internal:8001"),
        ("10.0.0.1:8001", "ipv4:10.0.0.1:8001"),
        ("10.0.0.1:8001,127.0.0.1:8001", "ipv4:10.0.0.1:8001,127.0.0.1:8001"),
        ("[fd00::1]:8001", "dns:///[fd00::1]:8001"),
    ],
)
def test_addresses_of_other_machines_are_dialled_over_tls_only(environment, said, target):
    """The join token goes with every dial."""
    with pytest.raises(ValidationError, match="tls_ca only"):
        environment(OPENAI_API_KEY="sk-1", MARUNTIME_WORKER__ORCHESTRATORS=said)

    settings = environment(MARUNTIME_WORKER__TLS_CA="ca.pem")

    assert settings.worker.target == target


@pytest.mark.parametrize(
    "said", ["orchestrator:8001,127.0.0.1:8001", "a:1,b:1", "localhost:1,localhost:2", "[::1]:1,[::1]:2"]
)
def test_several_addresses_must_be_ipv4(environment, said):
    """gRPC takes no list of names, and would dial only the first or none."""
    with pytest.raises(ValidationError, match="must be IPv4 addresses"):
        environment(OPENAI_API_KEY="sk-1", MARUNTIME_WORKER__ORCHESTRATORS=said, MARUNTIME_WORKER__TLS_CA="ca.pem")


@pytest.mark.parametrize(
    "said",
    [
        " ",
        ",",
        "localhost",
        "localhost:",
        ":8001",
        "localhost:http",
        "localhost:800100",
        "::1:8001",
        "[::1]",
        "dns:///orchestrator:8001",
        "http://orchestrator:8001",
        "127.0.0.1:8001/x",
        "127.0.0.1:8001;127.0.0.2:8001",
        "токен:1",
    ],
)
def test_what_is_no_address_is_refused(environment, said):
    with pytest.raises(ValidationError, match="must be host:port"):
        environment(OPENAI_API_KEY="sk-1", MARUNTIME_WORKER__ORCHESTRATORS=said, MARUNTIME_WORKER__TLS_CA="ca.pem")
