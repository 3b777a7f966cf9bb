"""One run on this worker: the loop with its log context."""

import asyncio

import structlog
from structlog.contextvars import bound_contextvars

from agent_worker.agents.contract import Agent
from agent_worker.agents.loop import AgentLoop
from agent_worker.agents.mind import RunMind
from agent_worker.llm.contract import LLM
from agent_worker.outbox import Outbox
from agent_worker.tools.executor import ToolExecutor
from maruntime.clock import Clock
from maruntime.domain.assignment import Assignment
from maruntime.errors import Fenced

log = structlog.get_logger()


async def run_session(
    assignment: Assignment,
    agent: Agent,
    outbox: Outbox,
    *,
    llm: LLM,
    executor: ToolExecutor,
    clock: Clock,
    draining: asyncio.Event,
) -> None:
    """Work on an assignment until the run has left this instance; a fenced run is left silently."""
    mind = RunMind(
        llm,
        assignment.template.body.llm,
        assignment.context.get("llm_parameters", {}),
        assignment.trace,
        outbox,
    )
    with bound_contextvars(run_id=assignment.run.run_id, epoch=assignment.run.epoch, session_id=assignment.session_id):
        loop = AgentLoop(assignment, agent, mind, executor, outbox, clock, draining)
        try:
            await loop.run()
        except Fenced:
            log.info("run_fenced")
