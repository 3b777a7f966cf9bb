"""Put together what an instance needs to work on a claimed run."""

from maruntime.domain.assignment import Assignment
from maruntime.domain.run import RunRef
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.journal.journal import Journal


class Snapshots:
    """Builds assignments from the store."""

    def __init__(self, journal: Journal, templates: TemplateCatalog, tools: ToolCatalog) -> None:
        self._journal = journal
        self._templates = templates
        self._tools = tools

    async def of(self, run: RunRef) -> Assignment:
        """The run with its transcript, template and tools.

        Raises:
            Fenced: the run is not RUNNING in this epoch any more.
            StoreUnavailable: Postgres is away.
        """
        stored = await self._journal.snapshot(run)
        template = await self._templates.by_version_id(stored.template_version_id)
        planned = {call.tool_version_id for call in stored.open_calls}
        return Assignment(
            run=run,
            session_id=stored.session_id,
            tenant_id=stored.tenant_id,
            principal_id=stored.principal_id,
            lease=stored.lease_left,
            elapsed=stored.elapsed,
            last_commit=stored.last_commit,
            step_no=stored.step_no,
            template=template,
            tools=await self._tools.offered(template.body.tools, planned),
            transcript=stored.transcript,
            open_calls=stored.open_calls,
            context={
                "counters": stored.counters,
                "llm_parameters": stored.context.get("llm_parameters", {}),
            },
            trace=stored.context.get("trace", {}),
        )
