"""The command line: `python -m supervisor run|up|down|status|logs|itest|clean`."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from supervisor import background, itest, logs
from supervisor.control import ask
from supervisor.errors import Interrupted, NotRunning, NotStarted, SupervisorError
from supervisor.home import Home
from supervisor.life import running, stopped_by_signals
from supervisor.screen import Screen, print_status
from supervisor.settings import CHECKOUT, Settings
from supervisor.system import System

_NOT_RUNNING = 3
_INTERRUPTED = 130

app = typer.Typer(
    help="Run maruntime on this machine.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def run(watcher: Annotated[int | None, typer.Option(hidden=True)] = None) -> None:
    """Run everything in the foreground until Ctrl-C."""
    screen = Screen(watcher=watcher)
    with _explained(screen):
        asyncio.run(_run(Settings.from_environ(os.environ), screen))


@app.command()
def up() -> None:
    """Run everything in the background."""
    screen = Screen()
    with _explained(screen):
        settings = Settings.from_environ(os.environ)
        if not background.up(Home(settings.home), screen):
            raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop what runs in the background."""
    screen = Screen()
    with _explained(screen):
        try:
            background.down(_home())
        except NotRunning as exc:
            screen.say(str(exc))
        else:
            screen.say("Stopped")


@app.command()
def status() -> None:
    """Show the processes; exit code 3 when nothing runs."""
    screen = Screen()
    with _explained(screen):
        holder = _home().holder()
        if holder is None:
            screen.say("Nothing is running.")
            raise typer.Exit(_NOT_RUNNING)
        print_status(ask(holder.control, {"op": "status"})["processes"])


@app.command("logs")
def show_logs(
    process: Annotated[str, typer.Argument(help="A name or a glob such as 'worker-*'.")] = "*",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they grow.")] = False,
) -> None:
    """Show the last lines of the logs."""
    with _explained(Screen()):
        logs.show(_home(), process, follow=follow)


@app.command("itest")
def run_cases(
    case: Annotated[str | None, typer.Option(envvar="CASE", help="Only this case.")] = None,
    tag: Annotated[str | None, typer.Option(envvar="TAG", help="Only cases with this tag.")] = None,
) -> None:
    """Run the YAML cases against a system of their own, or the one that MARUNTIME_TEST_SERVER_URL names."""
    screen = Screen()
    options = [*(["--case", case] if case else []), *(["--tag", tag] if tag else [])]
    with _explained(screen):
        settings = Settings.from_environ(os.environ)
        url = os.environ.get("MARUNTIME_TEST_SERVER_URL") or None
        raise typer.Exit(asyncio.run(itest.run_cases(settings, screen, options, url=url)))


@app.command()
def clean() -> None:
    """Remove data, logs, keys and reports."""
    screen = Screen()
    with _explained(screen):
        home = _home()
        for place in (home, Home(home.root / "itest")):
            if place.holder() is not None:
                raise SupervisorError(f"A system runs in {place.root}: stop it first (make down).")
        home.clear()
        shutil.rmtree(CHECKOUT / "reports", ignore_errors=True)
        screen.say(f"Removed {home.root} and reports")


async def _run(settings: Settings, screen: Screen) -> None:
    with stopped_by_signals() as stopping:
        async with running(settings, screen, stopping) as system:
            _announce(settings, screen, system)
            screen.release_watcher()
            await stopping.wait()
    screen.say("Stopped")


def _announce(settings: Settings, screen: Screen, system: System) -> None:
    known = system.environment.sourced()
    screen.section(f"maruntime answers at {known['MARUNTIME_URL']}/v1")
    screen.say(f"API key:     {known['MARUNTIME_API_KEY']}")
    screen.say(f"Environment: . {os.path.relpath(settings.home)}/env")
    if settings.real_model:
        screen.say(f"Model:       the one at {settings.environ['OPENAI_BASE_URL']} (OPENAI_BASE_URL)")
    else:
        screen.warn("Model:       the scripted LLM answers; set OPENAI_BASE_URL and OPENAI_API_KEY for a real one")


def _home() -> Home:
    return Home(Settings.from_environ(os.environ).home)


@contextmanager
def _explained(screen: Screen) -> Iterator[None]:
    """Turn an error into one line and an exit code."""
    try:
        yield
    except Interrupted as exc:
        screen.say(str(exc))
        raise typer.Exit(_INTERRUPTED) from None
    except NotStarted as exc:
        screen.failed(str(exc), exc.log)
        raise typer.Exit(1) from None
    except SupervisorError as exc:
        screen.failed(str(exc))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


if __name__ == "__main__":
    app()
