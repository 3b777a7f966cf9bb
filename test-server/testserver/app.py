"""The HTTP face of the test server: cases, verdicts and the scripted LLM."""

import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from testserver.llm_request import KEPT_HEADERS, LLMRequest
from testserver.llm_wire import LLMRefusal, events, whole
from testserver.loader import Catalogue, load_folder
from testserver.runner import Runner
from testserver.scripted_llm import ScriptedLLM
from testserver.settings import Settings
from testserver.verdict import Verdict

MODEL = "scripted"


class Selection(BaseModel):
    """Which cases to run: by name, by tag, or all."""

    model_config = ConfigDict(extra="forbid")

    cases: list[str] | None = None
    tags: list[str] | None = None
    parallel: int = Field(default=4, ge=1, le=64)


class Bench:
    """What the routes share: the settings, the LLM and the runner."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.llm = ScriptedLLM()
        self.runner = Runner(settings.stack, self.llm)

    def catalogue(self) -> Catalogue:
        """The cases as they are on disk now."""
        return load_folder(self.settings.cases_dir)


def _bench(request: Request) -> Bench:
    return request.app.state.bench


BenchOf = Annotated[Bench, Depends(_bench)]
routes = APIRouter()
llm_routes = APIRouter(prefix="/llm/v1")


def create_app(settings: Settings) -> FastAPI:
    """Build the test server."""
    app = FastAPI(title="maruntime test server")
    app.state.bench = Bench(settings)
    app.include_router(routes)
    app.include_router(llm_routes)
    app.add_exception_handler(LLMRefusal, _refuse)
    return app


@routes.get("/health")
def health(bench: BenchOf) -> dict[str, Any]:
    """Say that the server is up, and whether it knows a stack to judge."""
    stack = bench.settings.stack
    return {"status": "ok", "stack": stack.url, "control": stack.control is not None}


@routes.get("/cases")
def cases(bench: BenchOf) -> dict[str, Any]:
    """List the cases, and what is wrong with those that cannot be read."""
    found = bench.catalogue()
    listed = [
        {
            "name": case.name,
            "requirement": case.requirement,
            "tags": case.tags,
            "description": case.description,
            "exclusive": case.is_exclusive,
        }
        for case in found.cases.values()
    ]
    errors = [{"name": name, "problems": problems} for name, problems in found.broken.items()]
    return {"cases": listed, "errors": errors, "total": len(listed)}


@routes.api_route("/run/{case}", methods=["GET", "POST"])
async def run_case(case: str, bench: BenchOf) -> Response:
    """Run one case; anything but a pass is an HTTP error, for `curl -f`."""
    found = bench.catalogue()
    if case in found.broken:
        verdict = _broken(case, found)
    elif case in found.cases:
        verdict = await bench.runner.run(found.cases[case])
    else:
        return _unknown([case])
    return JSONResponse(verdict.model_dump(), status_code=200 if verdict.passed else 417)


@routes.post("/run")
async def run_cases(bench: BenchOf, selection: Selection | None = None) -> Response:
    """Run the selected cases and list their verdicts."""
    selection = selection or Selection()
    found = bench.catalogue()
    names = [*found.cases, *found.broken] if selection.cases is None else selection.cases
    if unknown := [name for name in names if name not in found.cases and name not in found.broken]:
        return _unknown(unknown)
    tags = set(selection.tags or [])
    # The tags of a broken case are not known: it is reported rather than passed over.
    broken = [_broken(name, found) for name in names if name in found.broken]
    chosen = [found.cases[name] for name in names if name in found.cases]
    chosen = [case for case in chosen if not tags or tags & set(case.tags)]
    verdicts = await bench.runner.run_all(chosen, selection.parallel)
    return JSONResponse([verdict.model_dump() for verdict in [*verdicts, *broken]])


@llm_routes.get("/models")
def models() -> dict[str, Any]:
    """List the one model that the scripted LLM has."""
    model = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "test-server"}
    return {"object": "list", "data": [model]}


@llm_routes.post("/chat/completions")
async def complete(request: Request, bench: BenchOf) -> Response:
    """Answer as the case of the request says, or with the demo."""
    asked = await _asked(request)
    reply = bench.llm.answer(asked)
    if asked.streams:
        return StreamingResponse(events(reply, asked), media_type="text/event-stream")
    return JSONResponse(whole(reply, asked))


async def _asked(request: Request) -> LLMRequest:
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        body = {}
    return LLMRequest(body if isinstance(body, dict) else {}, headers, time.monotonic())


def _refuse(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, LLMRefusal)
    if isinstance(exc.body, str):
        return Response(exc.body, status_code=exc.status, headers=exc.headers, media_type="text/plain")
    return JSONResponse(exc.body, status_code=exc.status, headers=exc.headers)


def _broken(name: str, found: Catalogue) -> Verdict:
    return Verdict.from_error(name, "\n".join(found.broken[name]))


def _unknown(names: list[str]) -> Response:
    return JSONResponse({"error": {"message": f"no case named {', '.join(names)}", "code": "not_found"}}, 404)
