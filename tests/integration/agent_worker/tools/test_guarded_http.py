"""The guarded client against servers that do what they like."""

import asyncio
import contextlib
import gzip
import os
import tracemalloc
import zlib

import pytest

from agent_worker.tools.guarded_http import (
    HttpFailed,
    HttpRequest,
    HttpTimeout,
    HttpUnreachable,
    RedirectRefused,
    ResponseTooLarge,
)
from agent_worker.tools.url_guard import UrlRefused


def names(**hosts):
    """A DNS: each host answers with its next list of addresses, the last one repeats."""
    asked = {}

    async def lookup(host, port):
        answers = hosts[host.split(".")[0]]
        asked[host] = asked.get(host, 0) + 1
        return answers[min(asked[host], len(answers)) - 1]

    lookup.asked = asked
    return lookup


async def test_a_request_is_sent_byte_for_byte(http, stand, say):
    stand.will(say(201, '{"a":1}', X_Odd="1"))

    reply = await http.send(HttpRequest("PUT", f"{stand.url}/a%2Fb?q=%20+", {"X-A": "1"}, b"\x00body"))

    (heard,) = stand.heard
    assert heard.line == "PUT /a%2Fb?q=%20+ HTTP/1.1"
    assert heard.body == b"\x00body"
    assert heard.headers == {
        "host": stand.address,
        "x-a": "1",
        "accept": "*/*",
        "accept-encoding": "gzip",
        "user-agent": "maruntime",
        "content-length": "5",
        "content-type": "application/octet-stream",
        "connection": "close",
    }
    assert (reply.status, reply.body, reply.headers["x-odd"]) == (201, b'{"a":1}', "1")


async def test_a_private_address_is_refused_before_anything_is_sent(clients, stand, say):
    http = await clients()
    stand.will(say())

    for url in (stand.url, f"http://localhost:{stand.port}", f"http://[::ffff:127.0.0.1]:{stand.port}"):
        with pytest.raises(UrlRefused):
            await http.send(HttpRequest("GET", url))

    assert stand.heard == []


async def test_a_name_that_turns_private_is_refused(clients, stand, say):
    """DNS rebinding: what is connected to is what was checked, on every connection anew."""
    stand.will(say())
    lookup = names(evil=[["127.0.0.1"]])
    http = await clients(lookup=lookup)

    with pytest.raises(UrlRefused):
        await http.send(HttpRequest("GET", f"http://evil.example:{stand.port}/"))

    assert stand.heard == []


async def test_one_lookup_serves_the_check_and_the_connection(clients, stand, say):
    """The second answer would be another one: it is never asked for within one request."""
    stand.will(say(200, "here"))
    lookup = names(crm=[["127.0.0.1"], ["127.0.0.5"]])
    http = await clients("127.0.0.1/32", lookup=lookup)

    reply = await http.send(HttpRequest("GET", f"http://crm.example:{stand.port}/"))

    assert reply.body == b"here"
    assert lookup.asked == {"crm.example": 1}
    with pytest.raises(UrlRefused):
        await http.send(HttpRequest("GET", f"http://crm.example:{stand.port}/"))


async def test_a_redirect_resolves_and_checks_again(clients, stand, say):
    """The first answer is allowed, the second is not: the hop after it is refused."""
    stand.will(say(302, Location="/again"))
    lookup = names(crm=[["127.0.0.1"], ["169.254.169.254"]])
    http = await clients(f"crm.example:{stand.port}", lookup=lookup)

    with pytest.raises(UrlRefused):
        await http.send(HttpRequest("GET", f"http://crm.example:{stand.port}/"))

    assert len(stand.heard) == 1
    assert stand.heard[0].headers["host"] == f"crm.example:{stand.port}"


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:1/", "http://localhost/", "//169.254.169.254/latest", "http://2130706433/", "file:///etc/passwd",
     "http://user:pass@a.example/", "http://[::1]/", "http://0/", "gopher://127.0.0.1/", "http://127.1/", "http://[::ffff:a00:1]/"],
)  # fmt: skip
async def test_a_redirect_to_a_closed_place_is_refused(http, stand, say, location):
    stand.will(say(302, Location=location), say(200))

    with pytest.raises(UrlRefused):
        await http.send(HttpRequest("GET", stand.url))

    assert len(stand.heard) == 1


async def test_a_redirect_within_the_origin_keeps_what_was_sent(http, stand, say):
    stand.will(say(308, Location="../b?x=1#frag"), say(200, "done"))

    reply = await http.send(HttpRequest("POST", f"{stand.url}/a/c", {"Authorization": "Bearer s"}, b"body"))

    second = stand.heard[1]
    assert (second.line, second.body, second.headers["authorization"]) == ("POST /b?x=1 HTTP/1.1", b"body", "Bearer s")
    assert (reply.body, reply.url) == (b"done", f"{stand.url}/b?x=1")


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirected_post_becomes_a_get(http, stand, say, status):
    stand.will(say(status, Location="/b"), say(200))

    await http.send(HttpRequest("POST", stand.url, {"Content-Type": "application/json"}, b"{}"))

    assert (stand.heard[1].method, stand.heard[1].body) == ("GET", b"")
    assert "content-type" not in stand.heard[1].headers


async def test_another_origin_gets_no_secret(clients, stands, say):
    first, second = await stands(), await stands()
    http = await clients(first.address, second.address)
    first.will(say(302, Location=second.url + "/x"))
    second.will(say(200, "done"))
    headers = {
        "Authorization": "Bearer s", "X-Api-Key": "s", "Cookie": "s", "Idempotency-Key": "k", "baggage": "a=b",
        "traceparent": "00-1", "Accept": "application/json",
    }  # fmt: skip

    await http.send(HttpRequest("GET", first.url, headers))

    assert set(second.heard[0].headers) == {
        "host",
        "accept",
        "accept-encoding",
        "user-agent",
        "connection",
        "traceparent",
    }


@pytest.mark.parametrize("status", [307, 308])
async def test_another_origin_gets_no_body(clients, stands, say, status):
    first, second = await stands(), await stands()
    http = await clients(first.address, second.address)
    first.will(say(status, Location=second.url))
    second.will(say(200))

    for request in (HttpRequest("POST", first.url, body=b"{}"), HttpRequest("DELETE", first.url)):
        with pytest.raises(RedirectRefused):
            await http.send(request)

    assert second.heard == []


async def test_redirects_come_to_an_end(http, stand, say):
    stand.will(say(302, Location="/again"))

    with pytest.raises(RedirectRefused, match="more than 5 times"):
        await http.send(HttpRequest("GET", stand.url))

    assert len(stand.heard) == 6


async def test_https_does_not_become_http():
    from agent_worker.tools.guarded_http import _redirected
    from agent_worker.tools.url_guard import checked_url

    with pytest.raises(RedirectRefused, match="from https to http"):
        _redirected(HttpRequest("GET", ""), checked_url("https://a.example"), 302, "http://a.example/")


@pytest.mark.parametrize("status", [300, 304, 305, 302])
async def test_other_answers_of_that_class_are_answers(http, stand, say, status):
    stand.will(say(status, "x" if status not in (304,) else ""))

    assert (await http.send(HttpRequest("GET", stand.url))).status == status


# --- sizes


async def test_an_answer_at_the_limit_passes_and_one_byte_more_does_not(http, stand, say):
    stand.will(say(200, b"x" * 1000), say(200, b"x" * 1001), say(200, b"x" * 1001))

    assert len((await http.send(HttpRequest("GET", stand.url, max_bytes=1000))).body) == 1000
    with pytest.raises(ResponseTooLarge):
        await http.send(HttpRequest("GET", stand.url, max_bytes=1000))
    cut = await http.send(HttpRequest("GET", stand.url, max_bytes=1000, may_cut=True))
    assert (len(cut.body), cut.is_cut) == (1000, True)


async def test_an_endless_answer_is_left(http, stand):
    async def endless(writer):
        writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            await writer.drain()

    stand.will(endless)

    async with asyncio.timeout(10):
        with pytest.raises(ResponseTooLarge):
            await http.send(HttpRequest("GET", stand.url, max_bytes=100_000))
        await stand.gone.wait()


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_a_packed_answer_is_unpacked(http, stand, say, pack):
    text = os.urandom(300_000).hex().encode()
    stand.will(say(200, pack(text), Content_Encoding="gzip" if pack is gzip.compress else "deflate"))

    assert (await http.send(HttpRequest("GET", stand.url))).body == text


async def test_a_bomb_stays_small(http, stand, say):
    stand.will(say(200, gzip.compress(b"\0" * 200_000_000), Content_Encoding="gzip"))

    tracemalloc.start()
    with pytest.raises(ResponseTooLarge):
        await http.send(HttpRequest("GET", stand.url, max_bytes=1_000_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000
    cut = await http.send(HttpRequest("GET", stand.url, max_bytes=1_000_000, may_cut=True))
    assert len(cut.body) == 1_000_000


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"x", "br"), (b"x", "gzip"), (gzip.compress(b"x" * 99)[:-9], "gzip"), (b"x", "gzip, gzip")],
)
async def test_an_answer_that_cannot_be_unpacked_is_an_error(http, stand, say, body, encoding):
    stand.will(say(200, body, Content_Encoding=encoding))

    with pytest.raises(HttpFailed):
        await http.send(HttpRequest("GET", stand.url))


@pytest.mark.parametrize("raw", [b"not http\r\n\r\n", b"HTTP/1.1 200 X\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"",
                                 b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nshort"])  # fmt: skip
async def test_what_is_no_answer_is_an_error(http, stand, raw):
    stand.will(raw)

    with pytest.raises(HttpUnreachable):
        await http.send(HttpRequest("GET", stand.url))


# --- time, and how often


async def silent(writer):
    await asyncio.Event().wait()


async def dripping(writer):
    writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("answer", [silent, dripping])
async def test_the_time_is_for_everything_together(http, stand, answer):
    async def watched(writer):
        with contextlib.suppress(asyncio.CancelledError):
            await answer(writer)

    stand.will(watched)

    async with asyncio.timeout(10):
        with pytest.raises(HttpTimeout):
            await http.send(HttpRequest("GET", stand.url, timeout=0.2))


async def test_a_slow_dns_is_within_the_time(clients):
    async def lookup(host, port):
        await asyncio.Event().wait()

    http = await clients(lookup=lookup)

    async with asyncio.timeout(10):
        with pytest.raises(HttpTimeout):
            await http.send(HttpRequest("GET", "http://a.example", timeout=0.05))


async def test_a_cancelled_request_is_gone(http, stand):
    async def waiting(writer):
        while not writer.transport.is_closing():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    stand.will(waiting)
    task = asyncio.create_task(http.send(HttpRequest("GET", stand.url)))
    async with asyncio.timeout(10):
        await stand.came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stand.gone.wait()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_request_without_an_answer_is_not_sent_again(http, stand, method):
    """`at_most_once` would be a lie otherwise."""
    stand.will(b"")

    with pytest.raises(HttpUnreachable):
        await http.send(HttpRequest(method, stand.url))

    assert len(stand.heard) == 1


async def test_a_place_where_nobody_listens(clients):
    http = await clients("127.0.0.1:1")

    with pytest.raises(HttpUnreachable):
        await http.send(HttpRequest("GET", "http://127.0.0.1:1/"))


async def test_cookies_are_not_kept(http, stand, say):
    stand.will(say(200, Set_Cookie="a=b"), say(200))

    await http.send(HttpRequest("GET", stand.url))
    await http.send(HttpRequest("GET", stand.url))

    assert "cookie" not in stand.heard[1].headers


async def test_the_machines_own_resolver_is_guarded_too(clients, stand, say):
    stand.will(say(200, "here"))
    http = await clients(f"localhost:{stand.port}")

    assert (await http.send(HttpRequest("GET", f"http://localhost:{stand.port}"))).body == b"here"
    with pytest.raises(UrlRefused):
        await http.send(HttpRequest("GET", "http://localhost:80"))


async def test_no_proxy_of_the_environment_is_used(http, stand, say, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stand.will(say(200, "direct"))

    assert (await http.send(HttpRequest("GET", stand.url))).body == b"direct"
