"""Which addresses a tool may reach: the guard against server-side request forgery.

`checked_url` reads an address strictly and refuses every spelling that two
parsers could read in two ways. `UrlPolicy` judges the IP addresses behind a
name. `GuardedResolver` sits inside the HTTP client: what it has judged is what
gets connected to, so a second DNS answer has no chance to differ. Whoever
sends a request has to check every hop; `guarded_http.py` does.
"""

import asyncio
import functools
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import BaseModel, ConfigDict, Field, field_validator
from yarl import URL

from maruntime.errors import MaruntimeError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_LONGEST = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNWANTED = re.compile(r"[\x00-\x20\x7f-\xa0\\<>\u2028\u2029\ud800-\udfff]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
_ENTRY = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<port>\d{1,5}))?")

# What IANA does not list as globally reachable, and the addresses where clouds serve credentials.
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128"),
    )
)
_CLOSED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "100.100.100.200/32",
            "168.63.129.16/32",
        ),
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
# Special assignments (Teredo is 2001::/32), documentation, 6to4, documentation again.
_CLOSED_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_CLOUD_V6 = ipaddress.IPv6Network("fd00:ec2::/32")
# Ranges whose last 32 bits are an IPv4 address that gets the packet.
_CARRIES_V4 = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))


class UrlRefused(MaruntimeError):
    """The address is not allowed."""

    code = "url_refused"


@dataclass(frozen=True, slots=True)
class Target:
    """An address that was read: `url` is what is sent, byte for byte."""

    url: URL
    scheme: str
    host: str
    port: int
    address: IPAddress | None
    """The host, where it is an IP address."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Who gets what is sent there."""
        return self.scheme, self.host, self.port


@dataclass(frozen=True, slots=True)
class Allowed:
    """An exception that the operator made: a host or a network, on one port or on all."""

    host: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Allowed":
        """Read `host`, `host:port`, an IP address with or without a port, or a network.

        Raises:
            ValueError: it is none of these.
        """
        if "/" in text:
            return cls(None, ipaddress.ip_network(text), None)
        try:
            return cls(None, ipaddress.ip_network(ipaddress.ip_address(text)), None)
        except ValueError:
            pass
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no host, host:port or network")
        port = int(match["port"]) if match["port"] else None
        try:
            host, address = _read_host(match["host"])
        except UrlRefused as exc:
            raise ValueError(f"{text!r}: {exc.message}") from exc
        if address is not None:
            return cls(None, ipaddress.ip_network(address), port)
        return cls(host, None, port)

    def covers(self, host: str, port: int, address: IPAddress) -> bool:
        """Whether the exception is about this connection.

        A name opens private networks only: what its DNS says next must not
        open a cloud's metadata. A network opens all that it contains.
        """
        if self.port not in (None, port):
            return False
        if self.network is not None:
            return address.version == self.network.version and address in self.network
        return self.host == host and (_is_private(address) or _problem(address) is None)


class UrlPolicy(BaseModel):
    """What the operator allows: the ports of public hosts, and private places by name or network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_private: tuple[str, ...] = ()
    ports: frozenset[int] | None = Field(default=frozenset({80, 443, 8080, 8443}))
    """None is every port. A private place that is allowed is allowed on the port that it names, or on all."""

    @field_validator("allowed_private")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Allowed.parse(text)
        return value

    def allowing(self, url: str) -> "UrlPolicy":
        """The policy with the host and port of an address that the operator configured."""
        target = checked_url(url)
        host = f"[{target.host}]" if ":" in target.host else target.host
        return self.model_copy(update={"allowed_private": (*self.allowed_private, f"{host}:{target.port}")})

    def check(self, host: str, port: int, address: IPAddress) -> None:
        """Let a connection to this address pass, or not.

        Raises:
            UrlRefused: the address is not public, or the port is not among those allowed.
        """
        if any(entry.covers(host, port, address) for entry in _entries(self.allowed_private)):
            return
        if self.ports is not None and port not in self.ports:
            raise UrlRefused(f"Port {port} is not allowed.")
        problem = _problem(address)
        if problem is not None:
            # The address itself would tell a model what the inner network looks like.
            raise UrlRefused(f"The host {host[:100]} is not reachable from here: {problem}.")

    def check_target(self, target: Target) -> None:
        """Check a host that is an IP address; a name is checked when it is resolved."""
        if target.address is not None:
            self.check(target.host, target.port, target.address)


def checked_url(text: str) -> Target:
    """Read an address.

    Raises:
        UrlRefused: it is not plain http or https to one host, without credentials.
    """
    text = text.strip(" ")
    if len(text) > _LONGEST:
        raise UrlRefused("The address is too long.")
    if _UNWANTED.search(text):
        raise UrlRefused("The address holds characters that an address may not hold.")
    try:
        parts = urlsplit(text)
    except ValueError as exc:
        raise UrlRefused("The address cannot be read.") from exc
    if parts.scheme not in _DEFAULT_PORTS or not text[len(parts.scheme) :].startswith("://"):
        raise UrlRefused("Only http:// and https:// addresses are allowed.")
    if "@" in parts.netloc:
        raise UrlRefused("An address must not hold credentials.")
    host, address, port = _read_netloc(parts.netloc)
    port = port or _DEFAULT_PORTS[parts.scheme]
    written = f"[{host}]" if ":" in host else host
    if port != _DEFAULT_PORTS[parts.scheme]:
        written += f":{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~[]")
    query = "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~[]") if parts.query else ""
    url = URL(f"{parts.scheme}://{written}{path}{query}", encoded=True)
    if (url.raw_host, url.port) != (host, port):
        raise UrlRefused("The address can be read in two ways.")
    return Target(url, parts.scheme, host, port, address)


def _read_netloc(netloc: str) -> tuple[str, IPAddress | None, int | None]:
    host, port = netloc, ""
    if netloc.startswith("["):
        host, bracket, rest = netloc.partition("]")
        host += bracket
        if rest and not rest.startswith(":"):
            raise UrlRefused("The address has no valid host.")
        port = rest[1:]
    elif ":" in netloc:
        host, _, port = netloc.partition(":")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise UrlRefused("The address has no valid port.")
    return *_read_host(host), int(port) if port else None


def _read_host(text: str) -> tuple[str, IPAddress | None]:
    if text.startswith("["):
        try:
            if not text.endswith("]") or "%" in text:
                raise ValueError
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError as exc:
            raise UrlRefused("The address has no valid host.") from exc
        return str(address), address
    host = _ascii_host(text.removesuffix("."))
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused("The address has no valid host.")
    if not _NUMBER.fullmatch(labels[-1]):
        return host, None
    try:
        # 2130706433, 0x7f.1, 127.1 and 0177.0.0.1 are loopback to some readers: only four plain numbers pass.
        address = ipaddress.IPv4Address(host)
    except ValueError as exc:
        raise UrlRefused("An IP address is written as four decimal numbers.") from exc
    return str(address), address


def _ascii_host(text: str) -> str:
    if "%" in text or not text:
        raise UrlRefused("The address has no valid host.")
    if text.isascii():
        return text.lower()
    try:
        host = URL.build(scheme="http", host=text).raw_host or ""
    except (ValueError, UnicodeError) as exc:
        raise UrlRefused("The address has no valid host.") from exc
    return host.lower().removesuffix(".")


@functools.lru_cache(maxsize=64)
def _entries(texts: tuple[str, ...]) -> tuple[Allowed, ...]:
    return tuple(map(Allowed.parse, texts))


def _is_private(address: IPAddress) -> bool:
    if address.version == 4 and any(address in network for network in _CLOSED_V4):
        return False
    if address.version == 6 and address in _CLOUD_V6:
        return False
    return any(address.version == network.version and address in network for network in _PRIVATE)


def _problem(address: IPAddress) -> str | None:
    """Why the address is not one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "its address belongs to one link"
        if any(address in network for network in _CARRIES_V4):
            return _problem(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_V6 or any(address in network for network in _CLOSED_V6):
            return "its address is not public"
        return None
    if any(address.version == network.version and address in network for network in (*_PRIVATE, *_CLOSED_V4)):
        return "its address is not public"
    return None


class SystemLookup:
    """The machine's own resolver, with threads of its own: a slow DNS must not take everybody else's."""

    def __init__(self, threads: int = 16) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dns")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Every address of the host.

        Raises:
            OSError: it has none.
        """
        look = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def close(self) -> None:
        """Let the threads go; a lookup under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedResolver(AbstractResolver):
    """Resolves a host for the HTTP client and lets it have only addresses that were judged, all of them."""

    def __init__(self, policy: UrlPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the host.

        Raises:
            UrlRefused: one of them is not allowed; the others do not help.
            OSError: there is none.
        """
        texts = await self._lookup(host, port)
        if not texts:
            raise OSError("no address")
        addresses = [ipaddress.ip_address(text) for text in texts]
        for address in addresses:
            self._policy.check(host, port, address)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held here."""
