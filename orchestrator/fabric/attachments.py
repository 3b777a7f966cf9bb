"""All workers' streams of this replica: who may attach, and what happens when a stream ends."""

import asyncio
from collections.abc import Callable

import grpc
import structlog

from maruntime.domain.principal import Scope
from maruntime.domain.run import RunRef
from maruntime.errors import LinkLost, MaruntimeError, ModelNotFound, ProtocolUnsupported, StoreUnavailable
from maruntime.wire import frames
from maruntime.wire.codec import MalformedFrame
from maruntime.wire.fabric import ServerStream
from maruntime.wire.status import status_of
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.fabric.attachment import Attachment, ContractBroken
from orchestrator.journal.journal import Journal
from orchestrator.pool.slots import Slots
from orchestrator.security.api_keys import ApiKeys

_HELLO_WITHIN = 10.0

log = structlog.get_logger()


class Attachments:
    """Serves Attach; waits out the grace of runs whose stream ended."""

    def __init__(
        self,
        make: Callable[[frames.Hello], Attachment],
        *,
        keys: ApiKeys,
        templates: TemplateCatalog,
        journal: Journal,
        slots: Slots,
        bus: EventBus,
        dispatcher: Dispatcher,
        reattach_grace: float,
    ) -> None:
        self._make = make
        self._keys = keys
        self._templates = templates
        self._journal = journal
        self._slots = slots
        self._bus = bus
        self._dispatcher = dispatcher
        self._reattach_grace = reattach_grace
        self._orphans: asyncio.Queue[tuple[RunRef, str]] = asyncio.Queue()
        self._stopping = False

    async def serve(self, stream: ServerStream) -> None:
        """Serve one stream until it ends."""
        try:
            await self._keys.authenticate(stream.token, Scope.WORKER)
            hello = await self._hello(stream)
        except MaruntimeError as exc:
            log.warning("attach_refused", reason=exc.code)
            await stream.abort(status_of(exc), exc.message)
            return
        attachment = self._make(hello)
        try:
            await attachment.welcome(await self._template_name(hello.template_version_id))
            log.info("worker_attached", instance_id=hello.instance_id, attachment=attachment.id, build=hello.build)
            await self._converse(attachment, stream)
        except MaruntimeError as exc:
            log.warning("attach_refused", reason=exc.code)
            await stream.abort(status_of(exc), exc.message)
        finally:
            self._on_end(attachment)

    async def release_orphans(self) -> None:
        """Release runs whose stream ended and did not come back, for as long as the process lives."""
        async with asyncio.TaskGroup() as graces:
            while True:
                run, attachment = await self._orphans.get()
                graces.create_task(self._release_after_grace(run, attachment), name="release_after_grace")

    def stop(self) -> None:
        """The replica is going away: it releases nothing, its workers attach elsewhere."""
        self._stopping = True

    async def _hello(self, stream: ServerStream) -> frames.Hello:
        try:
            async with asyncio.timeout(_HELLO_WITHIN):
                hello = await anext(stream.frames(), None)
        except TimeoutError as exc:
            raise MalformedFrame("No Hello came") from exc
        if not isinstance(hello, frames.Hello):
            raise MalformedFrame("The first frame must be Hello")
        if hello.protocol != frames.PROTOCOL:
            raise ProtocolUnsupported(f"This orchestrator speaks protocol {frames.PROTOCOL}, not {hello.protocol}")
        return hello

    async def _template_name(self, version_id: str | None) -> str | None:
        if version_id is None:
            return None
        try:
            return (await self._templates.by_version_id(version_id)).name
        except ModelNotFound:
            return None

    async def _converse(self, attachment: Attachment, stream: ServerStream) -> None:
        try:
            async with asyncio.TaskGroup() as both:
                writer = both.create_task(attachment.write(stream), name="attachment_writer")
                await attachment.read(stream)
                writer.cancel()
        except* (ContractBroken, MalformedFrame) as broken:
            log.error("contract_broken", attachment=attachment.id, reason=str(broken.exceptions[0]))
            await stream.abort(grpc.StatusCode.INVALID_ARGUMENT, str(broken.exceptions[0]))
        except* (LinkLost, grpc.RpcError, asyncio.InvalidStateError):
            log.info("link_lost", attachment=attachment.id)

    def _on_end(self, attachment: Attachment) -> None:
        attachment.close()
        run = attachment.owned_run
        self._slots.remove(attachment.slot)
        log.info("worker_detached", instance_id=attachment.slot.instance_id, attachment=attachment.id)
        if run is not None and not self._stopping:
            self._orphans.put_nowait((run, attachment.id))

    async def _release_after_grace(self, run: RunRef, attachment: str) -> None:
        await asyncio.sleep(self._reattach_grace)
        try:
            events = await self._journal.release(run, attachment)
        except StoreUnavailable:
            log.warning("release_failed", run_id=run.run_id)  # its lease runs out
            return
        except Exception:
            log.exception("release_failed", run_id=run.run_id)
            return
        if events:
            log.warning("run_released", run_id=run.run_id, epoch=run.epoch)
            self._bus.publish(events)
            self._dispatcher.wake()
