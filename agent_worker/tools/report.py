"""`create_report`: a Markdown report, kept as an artifact of the session."""

from typing import Any

from agent_worker.tools.contract import ToolContext, ToolResult
from maruntime.domain.commit import Artifact
from maruntime.ids import new_id


async def create_report(arguments: dict[str, Any], context: ToolContext) -> ToolResult:
    """Make the artifact; it is stored together with this result, or not at all."""
    title, content = arguments["title"].strip(), arguments["content"].strip()
    text = f"# {title}\n\n{content}\n\n*Confidence: {arguments['confidence']}*\n"
    artifact = Artifact(new_id("art"), title, "text/markdown; charset=utf-8", text.encode())
    words = len(content.split())
    return ToolResult(
        f'The report "{title}" ({words} words) is stored as artifact {artifact.id}.', artifacts=(artifact,)
    )
