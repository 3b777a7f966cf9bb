"""Turn an accepted turn into a chat completion, whole or streamed.

The client's going away ends the response, never the run.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from maruntime.clock import Clock
from maruntime.domain.event import RunEvent
from maruntime.errors import MaruntimeError, RunStillActive, StoreUnavailable
from orchestrator.dispatch.acceptance import Accepted
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.gateway import sse
from orchestrator.gateway.completion import CompletionWriter, error_event
from orchestrator.gateway.turn_stream import Content, Finished, Happened, Reasoning, Silence, TurnStream
from orchestrator.journal.journal import Journal
from orchestrator.settings import HttpSettings

log = structlog.get_logger()


class CompletionResponses:
    """Answers turns on the OpenAI wire."""

    def __init__(
        self, bus: EventBus, dispatcher: Dispatcher, journal: Journal, clock: Clock, settings: HttpSettings
    ) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._journal = journal
        self._clock = clock
        self._idle = settings.keep_alive.total_seconds()
        self._whole_wait = settings.whole_wait.total_seconds()

    async def respond(self, accepted: Accepted, *, stream: bool, include_usage: bool, all_events: bool) -> Response:
        """The response to a turn.

        Raises:
            RunFailed, RunCancelled, RunExpired, RunDead: how the run ended, when the response is not streamed.
            RunStillActive: the run takes longer than a whole response waits.
        """
        turn = accepted.turn
        writer = CompletionWriter(
            turn.id, turn.session_id, int(self._clock.now().timestamp()), include_usage=include_usage
        )
        headers = {"X-Session-Id": turn.session_id, "X-Run-Id": turn.run_id}
        if stream:
            return StreamingResponse(
                self._streamed(accepted, writer, include_usage=include_usage, all_events=all_events),
                media_type=sse.CONTENT_TYPE,
                headers={**sse.HEADERS, **headers},
            )
        try:
            body = await self._whole(accepted, writer)
        except MaruntimeError as exc:
            exc.details.setdefault("run_id", turn.run_id)
            exc.details.setdefault("session_id", turn.session_id)
            raise
        written = BackgroundTask(self._note_delivered, turn.id)
        return Response(body, media_type="application/json", headers=headers, background=written)

    async def _whole(self, accepted: Accepted, writer: CompletionWriter) -> bytes:
        content: list[str] = []
        reasoning: list[str] = []
        turn = accepted.turn
        with self._bus.subscribed(turn.run_id, turn.first_seq) as reader:
            self._dispatcher.run_accepted(turn.run_id, accepted.template.body.llm.endpoint)
            try:
                async with asyncio.timeout(self._whole_wait):
                    async for part in TurnStream(reader, idle=self._idle, live=False).parts():
                        match part:
                            case Content():
                                content.append(part.text)
                            case Reasoning():
                                reasoning.append(part.text)
                            case Finished():
                                return writer.whole(
                                    "".join(content),
                                    "".join(reasoning) or None,
                                    part.finish_reason,
                                    part.usage,
                                    _about(accepted, part),
                                )
                            case Happened() | Silence():
                                pass
            except TimeoutError as exc:
                raise RunStillActive(run_id=turn.run_id, session_id=turn.session_id) from exc
        raise AssertionError("a turn ends with Finished or an error")

    async def _streamed(
        self, accepted: Accepted, writer: CompletionWriter, *, include_usage: bool, all_events: bool
    ) -> AsyncIterator[bytes]:
        turn = accepted.turn
        with self._bus.subscribed(turn.run_id, turn.first_seq) as reader:
            self._dispatcher.run_accepted(turn.run_id, accepted.template.body.llm.endpoint)
            text = TurnStream(reader, idle=self._idle, live=True)
            yield sse.encode(text.place, writer.role_chunk())
            try:
                async for part in text.parts():
                    match part:
                        case Content():
                            yield sse.encode(text.place, writer.content_chunk(part.text))
                        case Reasoning():
                            yield sse.encode(text.place, writer.reasoning_chunk(part.text))
                        case Happened():
                            if all_events:
                                yield sse.encode(text.place, writer.event_chunk(_told(part.event)))
                        case Silence():
                            yield sse.COMMENT
                        case Finished():
                            yield sse.encode(
                                text.place, writer.finish_chunk(part.finish_reason, _about(accepted, part))
                            )
                            if include_usage:
                                yield sse.encode(text.place, writer.usage_chunk(part.usage))
                            yield sse.DONE
                            await self._note_delivered(turn.id)
            except MaruntimeError as exc:
                yield sse.encode(text.place, error_event(exc))
            except Exception as exc:
                log.exception("stream_failed", run_id=turn.run_id)
                yield sse.encode(text.place, error_event(exc))

    async def _note_delivered(self, turn_id: str) -> None:
        try:
            await self._journal.delivered(turn_id)
        except StoreUnavailable:
            log.warning("delivery_unnoted", turn_id=turn_id)


def _about(accepted: Accepted, part: Finished) -> dict[str, Any]:
    about = {
        "run_id": accepted.turn.run_id,
        "template": f"{accepted.template.name}@{accepted.template.version}",
        "state": part.state,
    }
    if part.status:
        about["status"] = part.status
    if part.waiting_for:
        about["waiting_for"] = part.waiting_for
    return about


def _told(event: RunEvent) -> dict[str, Any]:
    return {"event": event.type.value, "seq": event.seq, **event.payload}
