"""`wire.md` §1: every event has an id, none has a name."""

from openai._streaming import SSEDecoder

from orchestrator.gateway import sse


def test_an_event_is_an_id_and_a_line_of_data() -> None:
    assert sse.encode("1.2.3", b'{"a":1}') == b'id: 1.2.3\ndata: {"a":1}\n\n'


def test_an_event_may_lack_an_id() -> None:
    assert sse.encode(None, b"{}") == b"data: {}\n\n"


def test_the_official_client_reads_the_frames_and_passes_over_comments() -> None:
    stream = [sse.encode("1.0.0", '{"a":"ы"}'.encode()), sse.COMMENT, sse.DONE]

    events = [(event.id, event.data) for event in SSEDecoder().iter_bytes(iter(stream)) if event.data]

    assert events[0] == ("1.0.0", '{"a":"ы"}')
    assert events[1][1] == "[DONE]"


def test_proxies_are_told_to_keep_nothing() -> None:
    assert sse.HEADERS == {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    assert sse.CONTENT_TYPE.startswith("text/event-stream")
