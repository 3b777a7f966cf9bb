"""AgentInstance: pinned to a template version, serves many sessions in turn, keeps nothing of any of them."""

import asyncio
from dataclasses import dataclass

from agent_worker.agents.contract import Agent
from agent_worker.agents.kinds import AGENTS
from agent_worker.llm.contract import LLM
from agent_worker.outbox import Outbox
from agent_worker.run import run_session
from agent_worker.tools.executor import ToolExecutor
from maruntime.clock import Clock
from maruntime.domain.assignment import Assignment
from maruntime.domain.template import TemplateVersion


@dataclass(frozen=True, slots=True)
class InstanceHealth:
    """What can be said of an instance."""

    template_version_id: str | None
    run_id: str | None
    runs_served: int


class AgentInstance:
    """One slot's agent. It shares the worker's LLM clients and tools with the others."""

    def __init__(self, llm: LLM, executor: ToolExecutor, clock: Clock, draining: asyncio.Event) -> None:
        self._llm = llm
        self._executor = executor
        self._clock = clock
        self._draining = draining
        self._agent: Agent | None = None
        self._run_id: str | None = None
        self._runs_served = 0
        self.template: TemplateVersion | None = None

    def pin(self, template: TemplateVersion) -> None:
        """Serve this template version from now on."""
        self.template = template
        self._agent = AGENTS[template.body.kind]()
        self._runs_served = 0

    async def run(self, assignment: Assignment, outbox: Outbox) -> None:
        """Work on a run until it has left this instance."""
        if self.template is None or self.template.id != assignment.template.id:
            self.pin(assignment.template)
        assert self._agent is not None
        self._run_id = assignment.run.run_id
        await run_session(
            assignment,
            self._agent,
            outbox,
            llm=self._llm,
            executor=self._executor,
            clock=self._clock,
            draining=self._draining,
        )

    def reset(self) -> None:
        """Forget the session: what was kept of it lives in the run's own objects, which end with it."""
        self._run_id = None
        self._runs_served += 1

    def health(self) -> InstanceHealth:
        """What the instance is at."""
        return InstanceHealth(self.template.id if self.template else None, self._run_id, self._runs_served)
