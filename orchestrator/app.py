"""Wire the front doors to the resources."""

from fastapi import FastAPI

from maruntime.wire import frames
from orchestrator import exception_handlers, health
from orchestrator.admin import audit, instances, keys, templates, tools
from orchestrator.admin import sessions as admin_sessions
from orchestrator.fabric.attachment import Attachment
from orchestrator.fabric.attachments import Attachments
from orchestrator.gateway import agents, chat, models, openapi, runs, sessions
from orchestrator.middleware import AccessLog, BodyLimit, RequestId
from orchestrator.resources import Resources


def create_app(resources: Resources) -> FastAPI:
    """The HTTP application over opened resources."""
    app = FastAPI(
        title="maruntime",
        summary="A self-hosted multi-agent runtime",
        # What an interface is made of is shown to whoever has a key (`gateway/openapi.py`).
        openapi_url=None,
    )
    app.state.resources = resources
    exception_handlers.install(app)
    app.add_middleware(BodyLimit, limit=resources.settings.http.max_body_bytes)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestId)
    for part in (health, chat, models, sessions, agents, runs, openapi):
        app.include_router(part.router)
    for part in (instances, keys, tools, templates, admin_sessions, audit):
        app.include_router(part.router)
    return app


def create_attachments(resources: Resources) -> Attachments:
    """What serves the workers' streams over opened resources."""

    def make(hello: frames.Hello) -> Attachment:
        return Attachment(
            hello,
            journal=resources.journal,
            slots=resources.slots,
            bus=resources.bus,
            dispatcher=resources.dispatcher,
            renewer=resources.renewer,
            settings=resources.settings.fabric,
        )

    return Attachments(
        make,
        keys=resources.keys,
        templates=resources.templates,
        journal=resources.journal,
        slots=resources.slots,
        bus=resources.bus,
        dispatcher=resources.dispatcher,
        reattach_grace=resources.settings.fabric.reattach_grace.total_seconds(),
    )
