import socket
from collections.abc import Iterator

import pytest

from supervisor import ports
from supervisor.errors import PortTaken


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)


def test_free_ports_are_never_handed_out_twice_and_lie_below_the_ephemeral_ones() -> None:
    found = [ports.free_port() for _ in range(50)]

    assert len(set(found)) == 50
    assert max(found) < 32_768


def test_a_port_that_was_asked_for_is_taken_as_it_is_or_refused(taken: int) -> None:
    free = ports.free_port()

    assert ports.gateway_port(free) == free
    with pytest.raises(PortTaken, match=f"Port {taken} on 127.0.0.1 is already in use"):
        ports.gateway_port(taken)


def test_the_default_port_gives_way_to_the_next_free_one(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(ports, "DEFAULT_PORT", taken)

    port = ports.gateway_port(None)

    assert taken < port <= taken + 100
