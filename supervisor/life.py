"""One whole life of a system: held home, stores, stages, control socket, and the end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from supervisor.control import Control
from supervisor.credentials import Credentials
from supervisor.environment import Addresses
from supervisor.errors import Interrupted
from supervisor.home import Home
from supervisor.ports import DEFAULT_PORT, free_port, gateway_port
from supervisor.screen import Screen
from supervisor.settings import Settings
from supervisor.stack import Stack
from supervisor.stores import Stores
from supervisor.system import System

_INTERRUPTED = 130


@asynccontextmanager
async def running(settings: Settings, screen: Screen, stopping: asyncio.Event) -> AsyncIterator[System]:
    """Bring the whole system up, keep it inside this block, and take it down.

    Raises:
        SupervisorError: something did not start; nothing is left running.
        Interrupted: the person changed their mind before it was up.
    """
    home = Home(settings.home)
    with home.held() as control:
        port = gateway_port(settings.port)
        if settings.port is None and port != DEFAULT_PORT and settings.durable:
            screen.warn(f"Port {DEFAULT_PORT} is in use: the gateway takes {port} (PORT=n chooses another).")
        keys = Credentials.of(home, settings.environ)
        stores = await Stores.chosen(settings, home, keys)
        await stores.check(screen)
        system = System(settings, home, stores, _addresses(settings, stores, control, port), keys)
        home.write_env(system.environment.sourced())
        stack = Stack(system.stages(), screen.say)
        async with stack.kept(), Control(stack, stopping.set).served(control):
            await _unless(stopping, stack.start())
            try:
                yield system
            finally:
                screen.say("Stopping")


@contextmanager
def stopped_by_signals() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C, SIGTERM or a closed terminal sets; a second Ctrl-C ends everything at once."""
    stopping, impatient = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupted() -> None:
        if impatient.is_set():
            os._exit(_INTERRUPTED)  # the kernel ends the children, see child.py
        impatient.set()
        stopping.set()

    for number in signals:
        loop.add_signal_handler(number, interrupted if number is signal.SIGINT else stopping.set)
    try:
        yield stopping
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _addresses(settings: Settings, stores: Stores, control: Path, port: int) -> Addresses:
    count = settings.orchestrators
    return Addresses(
        database_url=stores.database_url,
        redis_url=stores.redis_url,
        control=control,
        test_server_port=free_port(),
        http_ports=(port, *(free_port() for _ in range(count - 1))),
        fabric_ports=tuple(free_port() for _ in range(count)),
    )


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or drop it when the stop comes first.

    Raises:
        Interrupted: the stop came first.
    """
    doing = asyncio.create_task(work, name="start-up")
    asked = asyncio.create_task(stopping.wait(), name="stop-asked")
    try:
        await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise Interrupted("Stopped before everything was up.")
        await doing
    finally:
        for task in (doing, asked):
            task.cancel()
        await asyncio.gather(doing, asked, return_exceptions=True)
