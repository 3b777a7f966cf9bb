"""The orchestrator's command line: `serve`, `migrate`."""

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import structlog
import typer
import uvicorn
import uvloop
from pydantic import ValidationError
from redis.exceptions import RedisError

from maruntime.errors import Unavailable
from maruntime.observability import logging
from orchestrator.app import create_app, create_attachments
from orchestrator.catalog.seeding import seed_defaults
from orchestrator.fabric.attachments import Attachments
from orchestrator.fabric.server import PortTaken, listening
from orchestrator.persistence import schema
from orchestrator.persistence.engine import opened_engine, where
from orchestrator.resources import Resources, opened
from orchestrator.settings import OrchestratorSettings

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="The maruntime orchestrator.")
log = structlog.get_logger()


class GatewayServer(uvicorn.Server):
    """Uvicorn without its own signal handling: stopping has more to do than to close sockets."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_serve`."""
        yield


@cli.command()
def serve() -> None:
    """Serve HTTP and gRPC until SIGTERM."""
    settings = _settings()
    try:
        uvloop.run(_serve(settings))
    except* (Unavailable, PortTaken) as failed:
        _fail(str(_first(failed)))


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="head, or where to go; `base` undoes everything")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Go back to the revision.")] = False,
) -> None:
    """Bring the schema to this build's head and load the shipped tools and templates."""
    settings = _settings()

    if down and revision == "head":
        _fail("name the revision to go back to; `base` undoes everything")

    async def run() -> None:
        if down:
            await schema.downgrade(settings.database_url, revision)
            return
        await schema.upgrade(settings.database_url, revision)
        if revision == "head":
            async with opened_engine(settings.database_url, settings.database) as maker:
                await seed_defaults(maker)

    try:
        asyncio.run(run())
    except Unavailable as exc:
        _fail(str(exc))


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error inside groups of groups."""
    inner = failed.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


async def _serve(settings: OrchestratorSettings) -> None:
    sock = _bound_socket(settings.http.host, settings.http.port)
    async with opened(settings) as resources:
        await _warn_without_redis(resources)
        attachments = create_attachments(resources)
        resources.background.start(attachments.release_orphans(), "orphans")
        server = GatewayServer(
            uvicorn.Config(
                create_app(resources),
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(settings.http.shutdown_grace.total_seconds()),
            )
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _begin_stop, resources, attachments, server)
        async with listening(settings.fabric, attachments.serve):
            log.info("gateway_listening", address="{}:{}".format(*sock.getsockname()[:2]))
            await server.serve(sockets=[sock])
        log.info("stopped")


def _begin_stop(resources: Resources, attachments: Attachments, server: uvicorn.Server) -> None:
    """Not ready, no new claims, streams end with an id to go on from; nothing is released."""
    log.info("stopping")
    resources.lifecycle.is_stopping = True
    resources.dispatcher.stop()
    attachments.stop()

    def close() -> None:
        resources.bus.stop()
        server.should_exit = True

    notice = resources.settings.http.drain_notice.total_seconds()
    asyncio.get_running_loop().call_later(notice, close)


async def _warn_without_redis(resources: Resources) -> None:
    if resources.redis is None:
        log.warning("redis_missing", effect="the pool registry shows this replica only")
        return
    try:
        await resources.redis.ping()  # type: ignore[misc] - the stub knows the blocking client only
    except (RedisError, OSError):
        log.warning("redis_unreachable", effect="started degraded: no shared registry, no hints")


def _bound_socket(host: str, port: int) -> socket.socket:
    """Bind before anything is opened, so that a taken port is one line."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as exc:
        raise PortTaken(f"The gateway cannot listen on {host}:{port}: {exc.strerror}") from exc
    return sock


def _settings() -> OrchestratorSettings:
    try:
        settings = OrchestratorSettings()  # type: ignore[call-arg] - the environment gives the values
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors(include_input=False))
        _fail(f"The settings are not valid: {problems}")
    logging.configure(settings.log_level, process="orchestrator")
    log.debug("settings_read", database=where(settings.database_url))
    return settings


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"maruntime orchestrator: {message}\n")
    raise typer.Exit(1)


if __name__ == "__main__":
    cli()
