from pathlib import Path

import pytest

from supervisor.credentials import Credentials
from supervisor.environment import Addresses, Environment

ADDRESSES = Addresses(
    database_url="postgresql://db",
    redis_url="redis://cache",
    control=Path("/home/control.sock"),
    test_server_port=20_001,
    http_ports=(8000, 20_002),
    fabric_ports=(20_003, 20_004),
)
KEYS = Credentials(api_key="api", admin_key="admin", internal_key="internal", join_token="join", redis_password="pw")
SHELL = {
    "PATH": "/bin",
    "PGPASSWORD": "pw",
    "DATABASE_URL": "postgresql://elsewhere",
    "MARUNTIME_CONTROL": "/stale",
    "MARUNTIME_ADMIN_KEY": "stale",
    "MARUNTIME_LOG__LEVEL": "debug",
    "OPENAI_BASE_URL": "http://model/v1",
    "OPENAI_API_KEY": "model-key",
    "OPENAI_MODEL": "gpt",
    "HTTPS_PROXY": "http://proxy",
    "NO_PROXY": "intranet",
}


def environment(*, real_model: bool = False) -> Environment:
    return Environment(SHELL, ADDRESSES, KEYS, real_model=real_model)


def test_a_worker_dials_every_orchestrator() -> None:
    worker = environment().worker(Path("/run/worker-1.json"))

    assert worker["MARUNTIME_WORKER__ORCHESTRATORS"] == "127.0.0.1:20003,127.0.0.1:20004"
    assert worker["MARUNTIME_WORKER__HEALTH_FILE"] == "/run/worker-1.json"


@pytest.mark.parametrize(
    ("real_model", "expected"),
    [
        (False, ("http://127.0.0.1:20001/llm/v1", "scripted", "gpt")),
        (True, ("http://model/v1", "model-key", "gpt")),
    ],
)
def test_a_worker_asks_the_scripted_llm_unless_the_user_named_a_model(
    real_model: bool, expected: tuple[str, str, str]
) -> None:
    worker = environment(real_model=real_model).worker(Path("/health"))

    assert tuple(worker[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL")) == expected


def test_a_worker_gets_no_way_into_the_stores_the_admin_routes_or_the_supervisor() -> None:
    worker = environment().worker(Path("/health"))

    forbidden = {"DATABASE_URL", "REDIS_URL", "PGPASSWORD", "MARUNTIME_CONTROL", "ADMIN_API_KEY", "MARUNTIME_ADMIN_KEY"}
    assert not forbidden & worker.keys()
    assert worker["MARUNTIME_LOG__LEVEL"] == "debug"


def test_only_a_worker_gets_the_key_of_the_model() -> None:
    built = environment(real_model=True)

    assert "OPENAI_API_KEY" not in built.orchestrator(0)
    assert "OPENAI_API_KEY" not in built.test_server()


def test_each_orchestrator_has_ports_of_its_own() -> None:
    built = environment()

    ports = [(env["MARUNTIME_HTTP__PORT"], env["MARUNTIME_FABRIC__PORT"]) for env in map(built.orchestrator, range(2))]
    assert ports == [("8000", "20003"), ("20002", "20004")]
    assert built.orchestrator(0)["DATABASE_URL"] == "postgresql://db"


def test_a_proxy_never_stands_between_our_processes() -> None:
    assert environment().worker(Path("/health"))["NO_PROXY"] == "intranet,127.0.0.1,localhost"
