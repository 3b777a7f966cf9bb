"""R20: verdicts that can be trusted: green on a gateway that keeps its word, red on one that does not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from testserver.loader import load_text
from testserver.runner import Runner
from testserver.scripted_llm import ScriptedLLM
from testserver.settings import CHECKOUT, StackSettings

# The fake gateway speaks the chat wire of two templates; the whole set runs against the real system (`make itest`).
SHIPPED = ("clarification", "clarification_route", "instance_reuse", "smoke")

HEAD = """\
name: probe
requirement: [R20]
tags: [probe]
description: A probe.
"""
ANSWER = """\
arrange:
  llm:
    - reply: {tool_calls: [{name: final_answer, arguments: {answer: "Hello ${unique}"}}]}
"""


async def verdict(bench, case: str) -> tuple[int, dict]:
    async with httpx2.AsyncClient(timeout=60) as client:
        response = await client.post(f"{bench.url}/run/{case}")
    return response.status_code, response.json()


def written(folder: Path, text: str) -> Path:
    (folder / "probe.yaml").write_text(HEAD + text)
    return folder


def wrong(judged: dict) -> set[str]:
    return {failure["where"] for step in judged["steps"] for failure in step["failures"]}


@pytest.mark.parametrize("case", SHIPPED)
async def test_a_shipped_case_passes_on_a_gateway_that_keeps_its_word(bench: Callable, case: str):
    opened = await bench()

    status, judged = await verdict(opened, case)

    assert judged["error"] is None
    assert [step for step in judged["steps"] if not step["passed"]] == []
    assert (status, judged["passed"], judged["case"]) == (200, True, case)
    assert (
        judged["llm_requests"] == len(opened.app.state.bench.catalogue().cases[case].arrange.llm)
        or case == "instance_reuse"
    )


@pytest.mark.parametrize(
    ("flaw", "case", "where"),
    [
        ("twice", "smoke", "text"),
        ("twice", "clarification", "content_once"),
        ("model", "smoke", "model_is_session"),
        ("endless", "smoke", "stream"),
        ("breaks", "smoke", "answer"),
        ("silent", "clarification_route", "waiting_for"),
        ("forgets", "clarification_route", "scripted LLM"),
        ("other_instance", "instance_reuse", "values.instances.distinct"),
    ],
)
async def test_a_flaw_of_the_gateway_turns_a_case_red(bench: Callable, flaw: str, case: str, where: str):
    status, judged = await verdict(await bench({flaw}), case)

    assert (status, judged["passed"]) == (417, False)
    assert where in wrong(judged)


async def test_the_case_that_restarts_processes_does_so_through_the_socket(bench: Callable):
    opened = await bench()

    await verdict(opened, "clarification")

    assert opened.control.told == [
        {"op": "restart", "process": process, "wait": True, "timeout": 60.0}
        for process in ("orchestrator-*", "worker-*")
    ]


async def test_without_the_socket_such_a_case_is_an_error_and_asks_nothing(bench: Callable):
    opened = await bench(control=None)

    status, judged = await verdict(opened, "clarification")

    assert status == 417
    assert judged["passed"] is False
    assert "MARUNTIME_CONTROL" in judged["error"]
    assert opened.gateway.sessions == {}


async def test_a_socket_that_refuses_makes_the_case_an_error(bench: Callable):
    opened = await bench()
    opened.control.answer = {"ok": False, "error": "no such process"}

    _, judged = await verdict(opened, "clarification")

    assert judged["passed"] is False
    assert judged["error"] == "restart orchestrator-*: no such process"


@pytest.mark.parametrize(("missing", "case"), [("url", "smoke"), ("api_key", "smoke"), ("admin_key", "instance_reuse")])
async def test_a_stack_that_is_not_configured_is_an_error(bench: Callable, missing: str, case: str):
    _, judged = await verdict(await bench(**{missing: None}), case)

    assert judged["passed"] is False
    assert judged["error"].startswith("MARUNTIME_")


async def test_a_stack_that_is_not_there_is_a_failure(bench: Callable):
    _, judged = await verdict(await bench(url="http://127.0.0.1:9"), "smoke")

    assert judged["passed"] is False
    assert wrong(judged) == {"answer"}


async def test_requests_carry_the_case_in_their_baggage(bench: Callable):
    opened = await bench()

    await verdict(opened, "smoke")

    assert len(set(opened.gateway.baggage)) == 1
    assert opened.gateway.baggage[0].startswith("maruntime.case=smoke-")


async def test_a_turn_that_nobody_asked_for_fails_the_case(bench: Callable, tmp_path: Path):
    text = (
        ANSWER
        + "    - reply: {content: never}\n"
        + "act:\n  - chat: {model: assistant, content: Hi, expect: {status: 200}}\n"
    )

    _, judged = await verdict(await bench(cases_dir=written(tmp_path, text)), "probe")

    assert judged["steps"][-1]["failures"][0]["got"] == "turn 1 was used 0 of 1 times"


async def test_a_request_that_the_script_lacks_fails_the_case_by_name(bench: Callable, tmp_path: Path):
    text = "act:\n  - chat: {model: assistant, content: Hi, expect: {status: 502}}\n"

    _, judged = await verdict(await bench(cases_dir=written(tmp_path, text)), "probe")

    assert judged["passed"] is False
    assert judged["llm_requests"] == 1
    assert [step["name"] for step in judged["steps"] if not step["passed"]] == ["scripted LLM"]


async def test_expected_refusals_pass_and_name_their_code(bench: Callable, tmp_path: Path):
    text = """\
act:
  - chat: {model: nobody, content: Hi, expect: {status: 404, error_code: model_not_found, error_param: model}}
  - chat: {model: assistant, content: Hi, auth: none, expect: {status: 401, error_code: invalid_api_key}}
  - chat: {model: assistant, content: Hi, auth: none, headers: {Authorization: Bearer wrong}, expect: {status: 401}}
  - http: {path: /admin/instances, auth: api, expect: {status: 403, error_code: forbidden}}
  - chat: {model: nobody, content: Hi, stream: true, via: stream, expect: {status: 404}}
"""

    _, judged = await verdict(await bench(cases_dir=written(tmp_path, text)), "probe")

    assert wrong(judged) == set()
    assert judged["passed"] is True


async def test_the_stream_helper_gives_the_same_text(bench: Callable, tmp_path: Path):
    text = (
        ANSWER
        + """\
act:
  - chat:
      model: assistant
      content: Hi
      stream: true
      via: stream
      include_usage: true
      expect: {text: "Hello ${unique}", content_once: true, usage_present: true, model_is_session: true}
"""
    )
    folder = written(tmp_path, text)

    _, judged = await verdict(await bench(cases_dir=folder), "probe")
    assert wrong(judged) == set()
    _, judged = await verdict(await bench({"twice"}, cases_dir=folder), "probe")
    assert wrong(judged) == {"text", "content_once"}
    _, judged = await verdict(await bench({"breaks"}, cases_dir=folder), "probe")
    assert "answer" in wrong(judged)


async def test_an_error_inside_a_stream_is_judged_by_its_code(bench: Callable, tmp_path: Path):
    chat = "{model: assistant, content: Hi, stream: true, expect: {status: 200, error_code: worker_lost}}"
    folder = written(tmp_path, f"{ANSWER}act:\n  - chat: {chat}\n")

    _, judged = await verdict(await bench({"breaks"}, cases_dir=folder), "probe")
    assert wrong(judged) == set()
    _, judged = await verdict(await bench(cases_dir=folder), "probe")
    assert wrong(judged) == {"answer", "error_code"}


async def test_a_case_that_takes_too_long_fails_and_says_where_it_stood(bench: Callable, tmp_path: Path):
    text = f"""\
within_s: 0.3
{ANSWER}act:
  - chat: {{name: hello, model: assistant, content: Hi, expect: {{status: 200}}, save: {{s: session_id}}}}
  - wait_for: {{session: "${{s}}", state: NEVER, within_s: 30}}
"""

    _, judged = await verdict(await bench(cases_dir=written(tmp_path, text)), "probe")

    assert judged["steps"][-1]["failures"][0]["got"] == "the last thing done was: hello"


async def test_a_wait_that_is_in_vain_tells_what_it_saw(bench: Callable, tmp_path: Path):
    text = (
        ANSWER
        + """\
act:
  - chat: {model: assistant, content: Hi, expect: {status: 200}, save: {s: session_id}}
  - wait_for: {path: "/sessions/${s}", pointer: /template, equals: assistant, within_s: 1}
  - wait_for: {session: "${s}", state: WAITING, within_s: 0.1}
"""
    )

    _, judged = await verdict(await bench(cases_dir=written(tmp_path, text)), "probe")

    assert judged["steps"][-1]["failures"][0]["got"] == {"status": 200, "found": "COMPLETED"}


async def test_an_instance_that_stays_busy_is_seen(bench: Callable, tmp_path: Path):
    text = (
        ANSWER
        + """\
act:
  - chat: {model: assistant, content: Hi, expect: {status: 200}}
  - wait_for: {instance: inst_1, state: IDLE, within_s: 0.1}
"""
    )

    _, judged = await verdict(await bench({"busy"}, cases_dir=written(tmp_path, text)), "probe")

    assert wrong(judged) == {"GET /admin/instances"}


async def test_the_server_lists_its_cases_and_what_is_wrong_with_them(bench: Callable, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("name: bad\nnonsense: 1\n")
    opened = await bench(cases_dir=written(tmp_path, "act:\n  - http: {path: /x, expect: {status: 404}}\n"))

    async with httpx2.AsyncClient() as client:
        listed = (await client.get(f"{opened.url}/cases")).json()
        health = (await client.get(f"{opened.url}/health")).json()
        broken = await client.get(f"{opened.url}/run/bad")
        unknown = await client.get(f"{opened.url}/run/nobody")
        selected = await client.post(f"{opened.url}/run", json={"tags": ["probe"]})
        none = await client.post(f"{opened.url}/run", json={"cases": ["nobody"]})
        mistyped = await client.post(f"{opened.url}/run", json={"case": ["probe"]})

    assert [case["name"] for case in listed["cases"]] == ["probe"]
    assert listed["errors"][0]["problems"][0].startswith(f"{tmp_path}/bad.yaml:")
    assert health["status"] == "ok"
    assert (broken.status_code, broken.json()["passed"]) == (417, False)
    assert "bad.yaml:2: nonsense: unknown key" in broken.json()["error"]
    assert unknown.status_code == none.status_code == 404
    assert mistyped.status_code == 422
    assert [(item["case"], item["passed"]) for item in selected.json()] == [("probe", True), ("bad", False)]


async def test_a_case_that_wants_to_be_alone_is():
    seen: list[int] = []
    running = 0

    class Watched(Runner):
        async def _play(self, case):
            nonlocal running
            running += 1
            seen.append(running if case.is_exclusive else 0)
            await asyncio.sleep(0)
            seen.append(running if case.is_exclusive else 0)
            running -= 1
            return await super()._play(case)

    quiet = HEAD + "act:\n  - http: {path: /x, expect: {status: 404}}\n"
    cases = [load_text(quiet, "q"), load_text("exclusive: true\n" + quiet, "e")] * 4

    verdicts = await Watched(StackSettings(), ScriptedLLM()).run_all(cases, parallel=8)

    assert len(verdicts) == 8
    assert [count for count in seen if count] == [1] * 8


async def test_the_example_of_the_documentation_runs(bench: Callable, tmp_path: Path):
    page = (CHECKOUT / "docs" / "cases.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "greeting.yaml").write_text(example)

    _, judged = await verdict(await bench(cases_dir=tmp_path), "greeting")

    assert judged["error"] is None
    assert wrong(judged) == set()
    assert json.dumps(judged)
    assert judged["passed"] is True
