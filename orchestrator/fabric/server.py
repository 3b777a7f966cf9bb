"""The gRPC server that workers dial."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import structlog

from maruntime.wire.channel import SERVER_OPTIONS
from maruntime.wire.fabric import ServerStream, register
from orchestrator.settings import FabricSettings

log = structlog.get_logger()


class PortTaken(OSError):
    """The fabric's port cannot be listened on."""


@asynccontextmanager
async def listening(settings: FabricSettings, serve: Callable[[ServerStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Listen for workers for as long as the block lasts; gives the port.

    Raises:
        PortTaken: somebody else listens there.
    """
    server = grpc.aio.server(options=SERVER_OPTIONS)
    register(server, serve)
    address = f"{settings.host}:{settings.port}"
    try:
        if settings.is_encrypted:
            port = server.add_secure_port(address, _credentials(settings))
        else:
            port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise PortTaken(f"The fabric cannot listen on {address}") from exc
    await server.start()
    log.info("fabric_listening", address=f"{settings.host}:{port}", tls=settings.is_encrypted)
    try:
        yield port
    finally:
        await server.stop(grace=None)


def _credentials(settings: FabricSettings) -> grpc.ServerCredentials:
    assert settings.tls_certificate
    assert settings.tls_key
    ca = Path(settings.tls_client_ca).read_bytes() if settings.tls_client_ca else None
    return grpc.ssl_server_credentials(
        [(Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes())],
        root_certificates=ca,
        require_client_auth=ca is not None,
    )
