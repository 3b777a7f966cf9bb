"""Remote tools against a server that hears every byte."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.tools.remote import RemoteCallFailed, RemoteTool, filled_url
from agent_worker.tools.remote_spec import RemoteSpec
from agent_worker.tools.secrets import NamedSecrets
from agent_worker.tools.url_guard import checked_url
from maruntime.domain.tool import EffectClass
from tests.integration.agent_worker.tools.tool_calls import a_context

KEY = "crm-key-0123456789"
SECRETS = NamedSecrets({"crm": KEY})


@pytest.fixture
def tool(http, stand):
    def made(path="", effect_class=EffectClass.PURE, **fields):
        return RemoteTool(RemoteSpec(url=stand.url + path, **fields), effect_class, http, SECRETS)

    return made


async def test_arguments_become_a_json_body(tool, stand, say):
    stand.will(say(200, '{"id": 7,  "x": 1.10}'))

    result = await tool("/orders/{customer}?dry={dry}")(
        {"customer": "Дом №1/a b?&#", "dry": True, "items": [{"n": 1}], "note": None}, a_context()
    )

    (heard,) = stand.heard
    assert heard.line == "POST /orders/%D0%94%D0%BE%D0%BC%20%E2%84%961%2Fa%20b%3F%26%23?dry=true HTTP/1.1"
    assert heard.body == b'{"items":[{"n":1}],"note":null}'
    assert heard.headers["content-type"] == "application/json"
    assert (result.text, result.error_code) == ('{"id": 7,  "x": 1.10}', None)


async def test_arguments_become_a_query(tool, stand, say):
    stand.will(say(200, "[]"))

    await tool("/find?fixed=1", method="GET")(
        {"q": "rain & snow=1", "tags": ["a", None, "b c"], "page": 2, "deep": {"x": [1]}, "none": None, "é": 1.5},
        a_context(),
    )

    assert stand.heard[0].line == (
        "GET /find?fixed=1&q=rain%20%26%20snow%3D1&tags=a&tags=b%20c&page=2"
        "&deep=%7B%22x%22%3A%5B1%5D%7D&%C3%A9=1.5 HTTP/1.1"
    )
    assert stand.heard[0].body == b""


async def test_secrets_and_the_trace_are_sent_as_headers(tool, stand, say):
    stand.will(say(200, "{}"))
    trace = {
        "traceparent": "00-ab-cd-01",
        "tracestate": "a=b",
        "baggage": "maruntime.case=7",
        "cookie": "no",
        "x": "no",
    }

    await tool(headers={"Authorization": "Bearer ${secret:crm}", "Accept": "application/vnd.crm+json"})(
        {}, a_context(trace=trace)
    )

    headers = stand.heard[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["accept"] == "application/vnd.crm+json"
    assert {name: headers[name] for name in ("traceparent", "tracestate", "baggage")} == {
        name: trace[name] for name in ("traceparent", "tracestate", "baggage")
    }
    assert not {"cookie", "x", "idempotency-key"} & set(headers)


async def test_a_keyed_tool_sends_the_same_key_each_time(tool, stand, say):
    stand.will(say(200, "{}"))
    context = a_context()

    await tool(effect_class=EffectClass.KEYED)({}, context)
    await tool(effect_class=EffectClass.KEYED, idempotency_header="X-Request-Id")({}, context)

    assert stand.heard[0].headers["idempotency-key"] == context.idempotency_key
    assert stand.heard[1].headers["x-request-id"] == context.idempotency_key


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ("/data/0/name", "Дождь"),
        ("/data/1", '{"name":null}'),
        ("/a~1b/~0", "3"),
        ("", '{"data":[{"name":"Дождь"},{"name":null}],"a/b":{"~":3}}'),
        ("/data/1/name", "null"),
    ],
)
async def test_a_part_of_the_answer_is_the_result(tool, stand, say, pointer, text):
    stand.will(say(200, '{"data": [{"name": "Дождь"}, {"name": null}], "a/b": {"~": 3}}'))

    assert (await tool(result_pointer=pointer)({}, a_context())).text == text


@pytest.mark.parametrize("pointer", ["/absent", "/data/2", "/data/-", "/data/01", "/data/0/name/x"])
async def test_a_part_that_is_not_there_is_told(tool, stand, say, pointer):
    stand.will(say(200, '{"data": [{"name": "x"}]}'))

    result = await tool(result_pointer=pointer)({}, a_context())

    assert (result.error_code, result.text) == ("remote_bad_response", f"The server's answer has nothing at {pointer}.")


async def test_text_is_taken_as_it_is(tool, stand, say):
    stand.will(say(200, b"caf\xc3\xa9 \xff"))

    assert (await tool(response="text")({}, a_context())).text == "café \ufffd"


async def test_an_empty_answer_is_an_empty_result(tool, stand, say):
    stand.will(say(204, Content_Length="0"))

    assert (await tool(method="DELETE")({}, a_context())).text == ""


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (404, '{"error":"no such order"}', "remote_refused", 'The server answered 404: {"error":"no such order"}'),
        (500, "", "remote_failed", "The server answered 500."),
        (302, "", "remote_failed", "The server answered 302."),
        (200, "<html>", "remote_bad_response", "The server's answer is not valid JSON."),
        (200, "x" * 300_000, "response_too_large", "The answer has more than 262144 bytes."),
    ],
)
async def test_what_goes_wrong_is_a_result(tool, stand, say, status, body, code, text):
    stand.will(say(status, body))

    result = await tool()({}, a_context())

    assert (result.error_code, result.text) == (code, text)


@pytest.mark.parametrize("body", [f'{{"you_sent": "{KEY}"}}', f"Bearer {KEY}"])
@pytest.mark.parametrize("status", [200, 403, 500])
async def test_a_server_that_shows_the_key_does_not_show_it_to_the_model(tool, stand, say, status, body):
    stand.will(say(status, body))

    result = await tool(response="text", headers={"Authorization": "Bearer ${secret:crm}"})({}, a_context())

    assert KEY not in repr(result)
    assert "[secret:crm]" in result.text


async def test_a_secret_that_this_worker_lacks_is_told_and_nothing_is_sent(tool, stand, say):
    stand.will(say())

    result = await tool(headers={"X-Key": "${secret:erp}"})({}, a_context())

    assert (result.error_code, result.text) == ("secret_missing", "This worker has no secret 'erp'.")
    assert stand.heard == []


@pytest.mark.parametrize("value", ["", ".", "..", "../admin", "a/../b", "..\\x", None, [], {}])
async def test_an_argument_that_would_leave_the_path_is_refused(tool, stand, say, value):
    stand.will(say())

    result = await tool("/customers/{id}")({"id": value}, a_context())

    assert result.error_code == "invalid_arguments"
    assert stand.heard == []


@pytest.mark.parametrize(
    ("template", "arguments"), [("/a/{x}{y}/b", {"x": ".", "y": "."}), ("/a/.{x}/b", {"x": "."}), ("/.{x}", {"x": "."})]
)
def test_dots_that_come_together_are_refused(template, arguments):
    with pytest.raises(RemoteCallFailed):
        filled_url(RemoteSpec(url="https://a.example" + template), arguments)


@given(value=st.text(min_size=1), other=st.text())
def test_no_argument_changes_where_a_request_goes(value, other):
    spec = RemoteSpec(method="GET", url="https://a.example:8443/x/{id}/y?q={q}")
    arguments = {"id": value, "q": other, "z": other}
    try:
        url, rest = filled_url(spec, arguments)
    except (RemoteCallFailed, UnicodeEncodeError, TypeError):
        return

    target = checked_url(url)
    assert (target.host, target.port, target.scheme) == ("a.example", 8443, "https")
    assert target.url.raw_path.startswith("/x/")
    assert target.url.raw_path.endswith("/y")
    assert target.url.raw_path.count("/") == 3
    assert [name for name, _ in target.url.query.items()] == ["q", "z"]
    assert rest == {"z": other}


async def test_the_time_of_the_tool_and_of_the_run_count(tool, stand):
    async def silent(writer):
        await asyncio.Event().wait()

    stand.will(silent)

    async with asyncio.timeout(10):
        by_tool = await tool(timeout="PT0.05S")({}, a_context())
        by_run = await tool()({}, a_context(deadline=0.0))

    assert [by_tool.error_code, by_run.error_code] == ["http_timeout"] * 2


async def test_a_private_server_has_to_be_allowed(clients, stand, say):
    stand.will(say())
    tool = RemoteTool(RemoteSpec(url=stand.url), EffectClass.PURE, await clients(), SECRETS)

    result = await tool({}, a_context())

    assert result.error_code == "url_refused"
    assert stand.heard == []
