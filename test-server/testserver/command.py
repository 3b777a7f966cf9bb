"""The command line: `serve` is the test server, `run` asks a running one."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
import uvicorn
from rich.console import Console

from testserver.app import create_app
from testserver.report import as_json, junit, show
from testserver.settings import Settings
from testserver.verdict import Verdict

FAILED, UNUSABLE = 1, 2

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Judge a running stack by YAML cases.")


@cli.command()
def serve() -> None:
    """Serve the cases and the scripted LLM until stopped."""
    settings = Settings.from_environ(os.environ)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level="warning")


@cli.command()
def run(
    url: Annotated[str, typer.Option(envvar="MARUNTIME_TEST_SERVER_URL", help="The running test server.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be given again.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only cases with this tag; may be given again.")] = None,
    junit_path: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML here.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write JSON here.")] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Cases beside each other.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for all cases together.")] = 900.0,
) -> None:
    """Run cases on a test server; exit 0 when all passed, 1 when not, 2 when none could run."""
    console = Console()
    selection = {"cases": case or None, "tags": tag or None, "parallel": parallel}
    try:
        verdicts = asyncio.run(_verdicts(url.rstrip("/"), selection, timeout))
    except _Unusable as exc:
        Console(stderr=True).print(str(exc), markup=False)
        raise typer.Exit(UNUSABLE) from exc
    show(verdicts, console)
    for path, written in ((junit_path, junit), (json_path, as_json)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written(verdicts))
    raise typer.Exit(0 if all(verdict.passed for verdict in verdicts) else FAILED)


class _Unusable(Exception):
    """No verdict could be had."""


async def _verdicts(url: str, selection: dict[str, Any], timeout_s: float) -> list[Verdict]:
    try:
        async with asyncio.timeout(timeout_s), httpx2.AsyncClient(timeout=None, trust_env=False) as http:
            response = await http.post(f"{url}/run", json=selection)
    except httpx2.HTTPError as exc:
        raise _Unusable(f"no test server answers at {url}: {exc}") from exc
    except TimeoutError as exc:
        raise _Unusable(f"no verdict from {url} within {timeout_s:g} s") from exc
    if response.status_code != 200:
        raise _Unusable(f"{url} answered {response.status_code}: {response.text}")
    verdicts = [Verdict.model_validate(verdict) for verdict in response.json()]
    if not verdicts:
        raise _Unusable("no case was selected, so nothing is proved")
    return verdicts
