"""Accept what a client sends: open or continue a session, queue a run, tell the dispatcher.

What fails here is a status code; what fails after is told in the stream.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.message import Message
from maruntime.domain.principal import Principal
from maruntime.domain.run import RunState, Turn, WaitingFor
from maruntime.domain.session import Session
from maruntime.domain.template import TemplateVersion
from maruntime.errors import RunNotWaiting, SessionBusy, SessionClosed
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.journal.journal import Journal, NewTurn
from orchestrator.metrics import RUNS_ACCEPTED
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants done, whatever its wire."""

    messages: tuple[Message, ...]
    trace: dict[str, str]
    llm_parameters: dict[str, Any] | None = None
    """None leaves those of the run's earlier turns."""
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn that is recorded and waits for a slot."""

    turn: Turn
    template: TemplateVersion


class Acceptance:
    """The use case behind every front door that takes messages."""

    def __init__(
        self,
        maker: async_sessionmaker[AsyncSession],
        journal: Journal,
        templates: TemplateCatalog,
        *,
        default_template: str,
        turn_deadline: timedelta,
    ) -> None:
        self._maker = maker
        self._journal = journal
        self._templates = templates
        self._default_template = default_template
        self._turn_deadline = turn_deadline

    async def open_session(
        self, caller: Principal, template: str | None, version: int | None, request: Request
    ) -> Accepted:
        """Open a session of a template (None = the default one) with the client's history as its transcript.

        Raises:
            ModelNotFound: no such template or version.
            TranscriptTooLarge: the history is over the limit.
        """
        chosen = await self._templates.by_name(template or self._default_template, version)
        turn = await self._journal.accept_session(caller, chosen, self._new_turn(request))
        RUNS_ACCEPTED.labels(kind="session").inc()
        return Accepted(turn, chosen)

    async def continue_session(self, caller: Principal, session_id: str, request: Request) -> Accepted:
        """Answer the session's question, or give it its next message.

        Raises:
            SessionNotFound: no such session of this caller.
            SessionClosed: the session was closed.
            SessionBusy: the session works on another message.
            TranscriptTooLarge: the transcript would be over the limit.
        """
        session = await self._open(caller, session_id)
        template = await self._templates.by_version_id(session.template_version_id)
        if session.run_state is RunState.WAITING and session.waiting_for is WaitingFor.CLARIFICATION:
            turn = await self._journal.accept_answer(caller, session_id, self._new_turn(request))
            RUNS_ACCEPTED.labels(kind="answer").inc()
        elif session.run_state is None or session.run_state.is_terminal:
            turn = await self._journal.accept_run(caller, session_id, template, self._new_turn(request))
            RUNS_ACCEPTED.labels(kind="run").inc()
        else:
            raise SessionBusy(session_id=session_id)
        return Accepted(turn, template)

    async def clarify(self, caller: Principal, session_id: str, request: Request) -> Accepted:
        """Answer the session's question.

        Raises:
            RunNotWaiting: the session did not ask anything.
            SessionNotFound: no such session of this caller.
        """
        session = await self._open(caller, session_id)
        if session.run_state is not RunState.WAITING or session.waiting_for is not WaitingFor.CLARIFICATION:
            raise RunNotWaiting("The session does not wait for a clarification", session_id=session_id)
        template = await self._templates.by_version_id(session.template_version_id)
        turn = await self._journal.accept_answer(caller, session_id, self._new_turn(request))
        RUNS_ACCEPTED.labels(kind="answer").inc()
        return Accepted(turn, template)

    async def _open(self, caller: Principal, session_id: str) -> Session:
        async with transaction(self._maker) as tx:
            session = await SessionRepository(tx, caller).get(session_id)
        if session.closed_at is not None:
            raise SessionClosed(session_id=session_id)
        return session

    def _new_turn(self, request: Request) -> NewTurn:
        context = {"trace": request.trace, "llm_parameters": request.llm_parameters, "metadata": request.metadata}
        return NewTurn(
            request.messages,
            self._turn_deadline,
            {name: value for name, value in context.items() if value is not None},
        )
