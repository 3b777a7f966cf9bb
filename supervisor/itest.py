"""Run the YAML cases against a stack that lives for this one run.

The cases themselves are run by the test-server; this brings a system up beside
whatever else runs here, points the client at it and takes it down. With
MARUNTIME_TEST_SERVER_URL the client goes there instead.
"""

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence

from supervisor.child import Child
from supervisor.home import Home
from supervisor.life import running, stopped_by_signals
from supervisor.screen import Screen
from supervisor.settings import CHECKOUT, Settings

_INTERRUPTED = 130
_REPORT = CHECKOUT / "reports" / "itest.xml"


async def run_cases(settings: Settings, screen: Screen, options: Sequence[str], *, url: str | None) -> int:
    """Run the cases that the options choose and return the client's exit code."""
    _REPORT.parent.mkdir(exist_ok=True)
    _REPORT.unlink(missing_ok=True)
    with stopped_by_signals() as stopping:
        if url is not None:
            return await _client(url, settings.environ, options, stopping)
        settings = settings.throw_away()
        _forget(Home(settings.home))
        async with running(settings, screen, stopping) as system:
            code = await _client(system.addresses.test_server_url, system.environment.test_server(), options, stopping)
        if code != 0:
            screen.failed(f"The logs of this run are in {settings.home / 'log'}.")
        return code


async def _client(url: str, environment: Mapping[str, str], options: Sequence[str], stopping: asyncio.Event) -> int:
    command = [sys.executable, "test-server/main.py", "run", "--url", url, *options, "--junit", str(_REPORT)]
    client = Child.spawn(command, environment=environment, directory=CHECKOUT)
    ended = asyncio.create_task(client.ended(), name="itest-client")
    asked = asyncio.create_task(stopping.wait(), name="stop-asked")
    try:
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        return await ended if ended.done() else _INTERRUPTED
    finally:
        asked.cancel()
        await client.kill()
        await asyncio.gather(ended, asked, return_exceptions=True)


def _forget(home: Home) -> None:
    """Drop what the last run kept, unless it still runs."""
    if home.holder() is None:
        for folder in (home.data, home.logs, home.run):
            shutil.rmtree(folder, ignore_errors=True)
