"""A gateway in one file, just real enough to be judged: it asks the LLM, keeps sessions, and can be made to lie."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import httpx2
import openai
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

KEY, ADMIN_KEY = "key-of-the-test", "admin-key-of-the-test"
ACTIONS = ("clarification", "create_report", "final_answer")


def tools(*names: str) -> list:
    return [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]


@dataclass
class FakeSession:
    id: str
    template: str
    run_id: str
    messages: list = field(default_factory=list)
    state: str = "RUNNING"
    pending: str | None = None
    usage: list = field(default_factory=lambda: [0, 0])


class FakeGateway:
    """The platform as its clients see it, with flaws on demand."""

    def __init__(self, llm_url: str, flaws: set[str]) -> None:
        self.llm_url = llm_url
        self.flaws = flaws
        self.sessions: dict[str, FakeSession] = {}
        self.instance_of: dict[str, str] = {}
        self.baggage: list[str] = []

    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/chat/completions")(self.chat)
        app.post("/agents/{session_id}/provide_clarification")(self.clarify)
        app.get("/sessions/{session_id}")(self.session)
        app.get("/sessions/{session_id}/history")(self.history)
        app.get("/v1/runs/{run_id}")(self.run)
        app.get("/admin/instances")(self.instances)
        return app

    async def chat(self, request: Request):
        body = await request.json()
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return refusal(401, "invalid_api_key")
        if body["model"] not in ("assistant", "sgr_assistant") and body["model"] not in self.sessions:
            return refusal(404, "model_not_found", "model")
        session = self.sessions.get(body["model"]) or self.opened(body["model"])
        return await self.turn(session, body["messages"][-1]["content"], body, request)

    async def clarify(self, session_id: str, request: Request):
        session = self.sessions[session_id]
        if session.state != "WAITING":
            return refusal(409, "run_not_waiting")
        body = await request.json()
        return await self.turn(session, body["messages"][-1]["content"], body, request)

    async def session(self, session_id: str):
        session = self.sessions[session_id]
        return {"id": session.id, "state": session.state, "template": session.template}

    async def history(self, session_id: str):
        return {"messages": self.sessions[session_id].messages}

    async def run(self, run_id: str):
        session = next(session for session in self.sessions.values() if session.run_id == run_id)
        return {"id": run_id, "state": session.state, "instance_id": self.instance_of[run_id]}

    async def instances(self, request: Request):
        if request.headers.get("authorization") != f"Bearer {ADMIN_KEY}":
            return refusal(403, "forbidden")
        state = "RUNNING" if "busy" in self.flaws else "IDLE"
        known = sorted(set(self.instance_of.values()))
        return {"instances": [{"instance_id": name, "state": state} for name in known], "total": len(known)}

    def opened(self, template: str) -> FakeSession:
        session = FakeSession(f"sess_{token_hex(13)}", template, f"run_{token_hex(8)}")
        self.sessions[session.id] = session
        self.instance_of[session.run_id] = f"inst_{token_hex(4)}" if "other_instance" in self.flaws else "inst_1"
        return session

    async def turn(self, session: FakeSession, said: str, body: dict, request: Request):
        if session.pending and "forgets" not in self.flaws:
            session.messages.append({"role": "tool", "tool_call_id": session.pending, "content": said})
        elif not session.pending:
            session.messages.append({"role": "user", "content": said})
        session.pending, session.usage = None, [0, 0]
        try:
            text = await self.loop(session, request)
        except openai.APIStatusError as exc:
            session.state = "FAILED"
            return refusal(502, "llm_failed", None, str(exc))
        return self.answered(session, text, body)

    async def loop(self, session: FakeSession, request: Request) -> str:
        headers = {name: request.headers[name] for name in ("baggage", "traceparent") if name in request.headers}
        self.baggage.append(headers.get("baggage", ""))
        http = httpx2.AsyncClient(verify=False, trust_env=False)
        async with openai.AsyncOpenAI(base_url=self.llm_url, api_key="none", max_retries=0, http_client=http) as llm:
            while True:
                if session.template == "sgr_assistant":
                    await self.ask(llm, session, headers, "reasoning")
                name, arguments, call_id = await self.ask(llm, session, headers, *ACTIONS)
                if name == "clarification":
                    session.state, session.pending = "WAITING", call_id
                    return arguments["questions"][0]
                if name == "final_answer":
                    session.state = "COMPLETED"
                    session.messages.append({"role": "assistant", "content": arguments["answer"]})
                    return arguments["answer"]
                session.messages.append({"role": "tool", "tool_call_id": call_id, "content": "artifact art_1"})

    async def ask(self, llm: openai.AsyncOpenAI, session: FakeSession, headers: dict, *names: str) -> tuple:
        completion = await llm.chat.completions.create(
            model="scripted",
            messages=session.messages,
            tools=tools(*names),
            tool_choice="required",
            extra_headers=headers,
        )
        message = completion.choices[0].message
        session.usage[0] += completion.usage.prompt_tokens
        session.usage[1] += completion.usage.completion_tokens
        call = message.tool_calls[0]
        if names != ("reasoning",) and call.function.name != "final_answer":
            session.messages.append(message.to_dict(mode="json"))
        return call.function.name, json.loads(call.function.arguments), call.id

    def answered(self, session: FakeSession, text: str, body: dict):
        model = "assistant" if "model" in self.flaws else session.id
        headers = {"X-Session-Id": session.id, "X-Run-Id": session.run_id}
        extension = {"run_id": session.run_id}
        if session.state == "WAITING" and "silent" not in self.flaws:
            extension["waiting_for"] = "clarification"
        prompt, completion = session.usage
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        base = {"id": f"chatcmpl-{token_hex(8)}", "created": 1, "model": model}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            return JSONResponse({**whole, "x_maruntime": extension}, headers=headers)
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        frames = self.frames(text, base, extension, usage if wants_usage else None)
        return StreamingResponse(frames, media_type="text/event-stream", headers=headers)

    async def frames(self, text: str, base: dict, extension: dict, usage: dict | None):
        base = {**base, "object": "chat.completion.chunk"}
        pieces = [text[:4], text[4:8], text[8:]] + ([text] if "twice" in self.flaws else [])
        deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
        for delta in deltas:
            yield event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if "breaks" in self.flaws:
            yield event({"error": {"message": "gone", "type": "server_error", "param": None, "code": "worker_lost"}})
            return
        if "endless" not in self.flaws:
            end = {"index": 0, "delta": {}, "finish_reason": "stop"}
            yield event({**base, "choices": [end], "x_maruntime": extension})
        if usage:
            yield event({**base, "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


def event(document: dict) -> str:
    return f"data: {json.dumps(document)}\n\n"


def refusal(status: int, code: str, param: str | None = None, message: str = "refused") -> JSONResponse:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers={"x-should-retry": "false"})


@dataclass
class FakeControl:
    """A supervisor's control socket that only notes what it is told."""

    path: Path
    answer: dict = field(default_factory=lambda: {"ok": True})
    told: list = field(default_factory=list)

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._talk, self.path)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.told.append(json.loads(await reader.readline()))
        writer.write(json.dumps(self.answer).encode() + b"\n")
        writer.close()
        await writer.wait_closed()
