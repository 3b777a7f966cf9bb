"""Find ports on the loopback address.

Ports come from below the kernel's ephemeral range, so that an outgoing
connection of somebody else cannot take a port while its process restarts.
"""

import random
import socket

from supervisor.errors import PortTaken

HOST = "127.0.0.1"
DEFAULT_PORT = 8000
_NEXT_PORTS_TRIED = 100
_PICKED_FROM = range(20_000, 32_000)
_picked: set[int] = set()


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Pick a free port that this process has not handed out before."""
    for _ in range(1_000):
        port = random.choice(_PICKED_FROM)  # noqa: S311 - a port is no secret
        if port not in _picked and is_free(port):
            _picked.add(port)
            return port
    raise PortTaken(f"No free port between {_PICKED_FROM.start} and {_PICKED_FROM.stop} on {HOST}.")


def gateway_port(asked: int | None) -> int:
    """Return the port that was asked for, or the first free one from 8000 upwards.

    Raises:
        PortTaken: the port that was asked for is in use.
    """
    if asked is not None:
        if not is_free(asked):
            raise PortTaken(
                f"Port {asked} on {HOST} is already in use. Stop what listens there or choose another PORT."
            )
        return asked
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _NEXT_PORTS_TRIED):
        if port not in _picked and is_free(port):
            _picked.add(port)
            return port
    return free_port()
