import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.llm.errors import LLMMalformed
from agent_worker.llm.sse import EventLines


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=40).map(lambda raw: raw.hex().encode()), max_size=10),
    ends=st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"]),
    size=st.integers(1, 50),
    terminated=st.booleans(),
)
def test_payloads_survive_any_slicing(payloads, ends, size, terminated):
    body = b": comment" + ends + b"".join(b"data: " + payload + ends for payload in payloads)
    body = body if terminated else body.removesuffix(ends)
    lines = EventLines()

    found = [payload for i in range(0, len(body), size) for payload in lines.feed(body[i : i + size])]

    assert [*found, *lines.close()] == payloads


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_over_the_limit_is_malformed(size, end):
    body = b"data: " + b"x" * 100 + end
    lines = EventLines(max_line=64)

    with pytest.raises(LLMMalformed):
        [list(lines.feed(body[i : i + size])) for i in range(0, len(body), size)]


def test_a_line_of_the_limit_passes():
    assert list(EventLines(max_line=8).feed(b"data: ab\n")) == [b"ab"]
