"""Everything that a worker opens at start and closes in reverse order."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import grpc
import grpc.aio

from agent_worker.attachment import Slot
from agent_worker.instance import AgentInstance
from agent_worker.llm.openai import OpenAIClient
from agent_worker.settings import WorkerSettings
from agent_worker.tools.executor import ToolExecutor
from agent_worker.tools.guarded_http import GuardedHttp
from agent_worker.tools.shipped import SHIPPED
from agent_worker.tools.url_guard import UrlPolicy
from maruntime.clock import SystemClock
from maruntime.wire.channel import CLIENT_OPTIONS
from maruntime.wire.fabric import WorkerStream


@asynccontextmanager
async def opened_slots(settings: WorkerSettings, draining: asyncio.Event) -> AsyncIterator[list[Slot]]:
    """Open the channel and the LLM clients, and give the slots that share them."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        llm = await stack.enter_async_context(OpenAIClient(settings.endpoints, clock=clock))
        channel = await stack.enter_async_context(_channel(settings))
        policy = UrlPolicy(allowed_private=settings.worker.remote_allowed_private)
        http = await stack.enter_async_context(GuardedHttp(policy))
        executor = ToolExecutor(SHIPPED, http=http, secrets=settings.secrets)
        token = settings.join_token.get_secret_value()
        worker_id = str(uuid.uuid4())
        yield [
            Slot(
                worker_id=worker_id,
                number=number,
                build=_build(),
                llm_endpoints=tuple(settings.endpoints),
                dial=lambda: WorkerStream(channel, token),
                instance=AgentInstance(llm, executor, clock, draining),
                clock=clock,
                draining=draining,
                redial=settings.worker.redial,
            )
            for number in range(settings.worker.slots)
        ]


def _channel(settings: WorkerSettings) -> grpc.aio.Channel:
    worker = settings.worker
    if worker.tls_ca is None:
        return grpc.aio.insecure_channel(worker.target, options=CLIENT_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(worker.tls_ca).read_bytes(),
        private_key=Path(worker.tls_key).read_bytes() if worker.tls_key else None,
        certificate_chain=Path(worker.tls_certificate).read_bytes() if worker.tls_certificate else None,
    )
    return grpc.aio.secure_channel(worker.target, credentials, options=CLIENT_OPTIONS)


def _build() -> str:
    try:
        return version("maruntime")
    except PackageNotFoundError:
        return "checkout"
