"""The processes that maruntime consists of, in the order of starting.

Stores → migrations → test-server (the scripted LLM) → orchestrators → workers.
"""

import signal
import sys
from collections.abc import Sequence

from supervisor.credentials import Credentials
from supervisor.environment import Addresses, Environment
from supervisor.home import Home
from supervisor.ports import HOST
from supervisor.process import ProcessSpec
from supervisor.readiness import answers_http, says_attached
from supervisor.settings import Settings
from supervisor.stack import Job, Stage
from supervisor.stores import Stores

_DRAIN_WITHIN = 25.0


class System:
    """The stages of one maruntime, built from settings."""

    def __init__(self, settings: Settings, home: Home, stores: Stores, addresses: Addresses, keys: Credentials) -> None:
        self.addresses = addresses
        self._settings = settings
        self._home = home
        self._stores = stores
        self.environment = Environment(settings.environ, addresses, keys, real_model=settings.real_model)

    def stages(self) -> list[Stage]:
        """Everything that has to run, in the order of starting."""
        return [
            self._embedded_stores(),
            [self._migrations()],
            [self._test_server()],
            [self._orchestrator(index) for index in range(self._settings.orchestrators)],
            [self._worker(number) for number in range(1, self._settings.workers + 1)],
        ]

    def _embedded_stores(self) -> list[ProcessSpec | Job]:
        found: list[ProcessSpec | Job] = []
        if postgres := self._stores.postgres:
            found.append(
                ProcessSpec(
                    name="postgres",
                    command=postgres.command,
                    wrapper=postgres.wrapper,
                    environment=postgres.environment,
                    directory=postgres.data_dir,
                    log=self._home.log("postgres"),
                    prepare=postgres.prepare,
                    is_ready=lambda _pid: postgres.answers(),
                    stop_signal=signal.SIGINT,
                    stop_within=20.0,
                    death_signal=signal.SIGINT,
                )
            )
        if redis := self._stores.redis:
            found.append(
                ProcessSpec(
                    name="redis",
                    command=redis.command,
                    environment=redis.environment,
                    directory=self._home.data,
                    log=self._home.log("redis"),
                    prepare=redis.prepare,
                    is_ready=lambda _pid: redis.answers(),
                )
            )
        return found

    def _migrations(self) -> Job:
        return Job(
            name="migrate",
            command=_module("orchestrator", "migrate"),
            environment=self.environment.orchestrator(0),
            directory=self._settings.checkout,
            log=self._home.log("migrate"),
        )

    def _test_server(self) -> ProcessSpec:
        url = f"{self.addresses.test_server_url}/health"
        return ProcessSpec(
            name="test-server",
            command=[sys.executable, "test-server/main.py", "serve"],
            environment=self.environment.test_server(),
            directory=self._settings.checkout,
            log=self._home.log("test-server"),
            is_ready=lambda _pid: answers_http(url),
        )

    def _orchestrator(self, index: int) -> ProcessSpec:
        url = f"http://{HOST}:{self.addresses.http_ports[index]}/readyz"
        return ProcessSpec(
            name=f"orchestrator-{index + 1}",
            command=_module("orchestrator", "serve"),
            environment=self.environment.orchestrator(index),
            directory=self._settings.checkout,
            log=self._home.log(f"orchestrator-{index + 1}"),
            is_ready=lambda _pid: answers_http(url),
            stop_within=_DRAIN_WITHIN,
        )

    def _worker(self, number: int) -> ProcessSpec:
        health = self._home.run / f"worker-{number}.json"

        async def attached(pid: int) -> bool:
            return await says_attached(health, pid)

        return ProcessSpec(
            name=f"worker-{number}",
            command=_module("agent_worker", "serve"),
            environment=self.environment.worker(health),
            directory=self._settings.checkout,
            log=self._home.log(f"worker-{number}"),
            is_ready=attached,
            stop_within=_DRAIN_WITHIN,
        )


def _module(name: str, command: str) -> Sequence[str]:
    return [sys.executable, "-m", name, command]
