"""A checkout whose processes are tiny stand-ins, run by the real supervisor, and stacks of small scripts."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import supervisor
from supervisor.control import ask
from supervisor.home import Home
from supervisor.ports import free_port
from supervisor.process import ProcessSpec
from supervisor.stack import Stack

_HTTP = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/environment":
            self.wfile.write(json.dumps(dict(os.environ)).encode())

    def log_message(self, *_):
        pass

def serve(port):
    print("listening on", port)
    ThreadingHTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()
"""

_STAND_INS = {
    "orchestrator/__init__.py": "",
    "orchestrator/__main__.py": _HTTP
    + """
if sys.argv[1] == "migrate":
    if "BREAK_MIGRATE" in os.environ:
        sys.exit("the migration broke")
else:
    serve(os.environ["MARUNTIME_HTTP__PORT"])
""",
    "agent_worker/__init__.py": "",
    "agent_worker/__main__.py": """
import json, os, signal, time
from pathlib import Path
path = Path(os.environ["MARUNTIME_WORKER__HEALTH_FILE"])
path.with_suffix(".environment").write_text(json.dumps(dict(os.environ)))
path.write_text(json.dumps({"pid": os.getpid(), "attached": 1, "at": time.time()}))
signal.pause()
""",
    "test-server/main.py": _HTTP
    + """
if sys.argv[1] == "serve":
    serve(os.environ["TEST_SERVER_PORT"])
else:
    from urllib.request import urlopen
    url = sys.argv[sys.argv.index("--url") + 1]
    assert urlopen(url + "/health").status == 200
    print("arguments:", *sys.argv[4:])
    sys.exit(int("--case" in sys.argv and sys.argv[sys.argv.index("--case") + 1] == "broken"))
""",
}


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Poll for a condition of something outside this process."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Checkout:
    """A folder with the real supervisor and stand-ins for what it starts."""

    root: Path
    prefix: Sequence[str] = ()
    home_name: str = ".maruntime"

    @property
    def home(self) -> Home:
        return Home(self.root / self.home_name)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        wishes = {"WORKERS": "2", "PORT": str(free_port()), "MARUNTIME_HOME": self.home_name}
        return {**kept, **wishes, **more}

    def command(self, *words: str) -> list[str]:
        return [*self.prefix, sys.executable, "-m", "supervisor", *words]

    def call(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        holder = self.home.holder()
        assert holder is not None
        return ask(holder.control, request, timeout=30)

    def states(self) -> dict[str, str]:
        return {process["name"]: process["state"] for process in self.ask(op="status")["processes"]}

    def pids(self) -> dict[str, int]:
        return {process["name"]: process["pid"] for process in self.ask(op="status")["processes"]}

    def sourced(self) -> dict[str, str]:
        shell = [". .maruntime/env && env -0"]
        told = subprocess.run(["/bin/sh", "-c", *shell], cwd=self.root, env={}, capture_output=True, check=True).stdout
        return dict(line.split("=", 1) for line in told.decode().split("\0") if line)

    def processes(self) -> list[int]:
        """Every living process that was started from here: each one runs in this folder."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if (entry / "cwd").readlink().is_relative_to(self.root) and is_alive(int(entry.name)):
                    found.append(int(entry.name))
        return found

    @asynccontextmanager
    async def running(self, **environment: str) -> AsyncIterator[subprocess.Popen[str]]:
        """A supervisor in the foreground whose processes are all ready."""
        process = self.start(**environment)
        try:
            await until(lambda: process.poll() is not None or self._is_ready(), 60)
            assert process.poll() is None, process.stdout and process.stdout.read()
            yield process
        finally:
            self.end(process)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command("run"),
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def announced(process: subprocess.Popen[str]) -> str:
        """What the supervisor said until it had said everything about being up."""
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Model:"):
                break
        return "".join(lines)

    @staticmethod
    def end(process: subprocess.Popen[str]) -> str:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            output, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        return output

    def _is_ready(self) -> bool:
        try:
            states = self.states()
        except Exception:
            return False
        return bool(states) and set(states.values()) == {"ready"}


def fetched(url: str) -> dict[str, str]:
    with urlopen(url) as reply:
        return json.loads(reply.read())


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    root = (tmp_path / "checkout").resolve()
    package = Path(supervisor.__file__).parent
    shutil.copytree(package, root / "supervisor", ignore=shutil.ignore_patterns("__pycache__"))
    for name, source in _STAND_INS.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    checkout = Checkout(root)
    yield checkout
    assert not checkout.processes()
    for home in (checkout.home, Home(checkout.home.root / "itest")):
        home.clear()


@dataclass
class Scripts:
    """Makes process specs out of small Python scripts."""

    root: Path
    said: list[str]

    def spec(self, name: str, script: str, **more: Any) -> ProcessSpec:
        """The process is ready once its script has printed `ready`."""
        log = self.root / f"{name}.log"

        async def is_ready(pid: int) -> bool:
            return f"ready {pid}" in log.read_text()

        return ProcessSpec(
            name=name,
            command=[sys.executable, "-c", f"import os, signal, sys, time\n{script}"],
            environment={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            directory=self.root,
            log=log,
            is_ready=is_ready,
            **more,
        )

    def steady(self, name: str, **more: Any) -> ProcessSpec:
        return self.spec(name, "print('ready', os.getpid())\nsignal.pause()", **more)

    def stack(self, *stages: Any) -> Stack:
        return Stack(stages, self.said.append)


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path, [])
