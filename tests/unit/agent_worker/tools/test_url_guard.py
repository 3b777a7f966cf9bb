import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_worker.tools.url_guard import GuardedResolver, UrlPolicy, UrlRefused, checked_url

PUBLIC = UrlPolicy()
CLOSED = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "240.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32",
]  # fmt: skip
CLOSED_V6 = ["::/128", "::1/128", "fc00::/7", "fe80::/10", "ff00::/8", "2001:db8::/32", "2002::/16", "2001::/32",
             "64:ff9b:1::/48", "100::/64", "fd00:ec2::254/128", "::/96", "5f00::/16", "fec0::/10"]  # fmt: skip


def addresses_of(networks):
    def one(text):
        network = ipaddress.ip_network(text)
        first, last = int(network.network_address), int(network.broadcast_address)
        kind = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
        return st.integers(first, last).map(kind)

    return st.sampled_from(networks).flatmap(one)


def refused(policy, host, port, address):
    try:
        policy.check(host, port, address)
    except UrlRefused:
        return True
    return False


# --- addresses


@given(address=addresses_of(CLOSED) | addresses_of(CLOSED_V6))
def test_no_closed_address_passes(address):
    assert refused(PUBLIC, "h.example", 443, address)


@given(address=addresses_of(CLOSED), prefix=st.sampled_from(["::ffff:0:0", "64:ff9b::", "::", "::ffff:0:0:0"]))
def test_no_closed_address_passes_inside_another(address, prefix):
    inside = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(address))

    assert refused(PUBLIC, "h.example", 443, inside)


@given(address=addresses_of(CLOSED))
def test_no_closed_address_passes_in_6to4_or_teredo(address):
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | 1)
    teredo = ipaddress.IPv6Address((0x20010000 << 96) | (int(address) ^ 0xFFFFFFFF))

    assert refused(PUBLIC, "h.example", 443, six_to_four)
    assert refused(PUBLIC, "h.example", 443, teredo)


@given(number=st.integers(0, 2**32 - 1))
def test_ipv4_is_never_freer_than_python_says(number):
    """Python's own list is a second opinion; where it closes an address, so do we."""
    address = ipaddress.IPv4Address(number)
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert refused(PUBLIC, "h.example", 443, address)


@given(number=st.integers(0, 2**128 - 1))
def test_ipv6_is_never_freer_than_python_says(number):
    address = ipaddress.IPv6Address(number)
    if not address.is_global or address.is_multicast:
        assert refused(PUBLIC, "h.example", 443, address)


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111",
                                  "64:ff9b::808:808",
                                  "::ffff:1.1.1.1", "2a00:1450::1"])  # fmt: skip
def test_public_addresses_pass(text):
    PUBLIC.check("h.example", 443, ipaddress.ip_address(text))


@pytest.mark.parametrize("port", [1, 22, 25, 3306, 6379, 9200, 65535])
def test_only_the_ports_of_the_web_are_open(port):
    with pytest.raises(UrlRefused, match=f"Port {port} is not allowed"):
        PUBLIC.check("h.example", port, ipaddress.ip_address("1.1.1.1"))
    UrlPolicy(ports=None).check("h.example", port, ipaddress.ip_address("1.1.1.1"))


def test_what_is_refused_does_not_tell_the_address():
    with pytest.raises(UrlRefused) as caught:
        PUBLIC.check("h.example", 443, ipaddress.ip_address("10.1.2.3"))

    assert caught.value.message == "The host h.example is not reachable from here: its address is not public."


# --- what the operator allows


@pytest.mark.parametrize(
    ("allowed", "host", "port", "address", "passes"),
    [
        ("crm", "crm", 9000, "10.0.0.1", True),
        ("crm", "crm", 80, "127.0.0.1", True),
        ("crm", "crm", 80, "1.1.1.1", True),
        ("crm", "erp", 80, "10.0.0.1", False),
        ("crm", "crm", 80, "169.254.169.254", False),
        ("crm", "crm", 80, "100.100.100.200", False),
        ("crm", "crm", 80, "0.0.0.0", False),
        ("crm", "crm", 80, "fd00:ec2::254", False),
        ("crm", "crm", 80, "fd12::1", True),
        ("crm:9000", "crm", 9000, "10.0.0.1", True),
        ("crm:9000", "crm", 9001, "10.0.0.1", False),
        ("CRM.Example.", "crm.example", 80, "10.0.0.1", True),
        ("10.0.0.0/8", "any", 5000, "10.9.9.9", True),
        ("10.0.0.0/8", "any", 80, "11.0.0.1", True),
        ("10.0.0.0/8", "any", 80, "192.168.0.1", False),
        ("10.0.0.0/8", "any", 80, "::ffff:10.0.0.1", False),
        ("169.254.169.254", "any", 80, "169.254.169.254", True),
        ("127.0.0.1:8123", "localhost", 8123, "127.0.0.1", True),
        ("127.0.0.1:8123", "localhost", 8124, "127.0.0.1", False),
        ("[::1]:8123", "localhost", 8123, "::1", True),
        ("::1", "localhost", 1, "::1", True),
    ],
)
def test_an_exception_opens_what_it_names_and_no_more(allowed, host, port, address, passes):
    policy = UrlPolicy(allowed_private=(allowed,))

    assert refused(policy, host, port, ipaddress.ip_address(address)) is not passes


@pytest.mark.parametrize(
    "text",
    ["", "a b", "http://crm", "10.0.0.0/33", "10.0.0.1/8", "crm:", "crm:99x", "0x7f.1", "*", "*.crm", "2130706433"],
)
def test_an_exception_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValidationError):
        UrlPolicy(allowed_private=(text,))


def test_a_configured_address_is_allowed_with_its_port():
    policy = PUBLIC.allowing("http://searxng:8080/x")

    policy.check("searxng", 8080, ipaddress.ip_address("172.18.0.2"))
    assert refused(policy, "searxng", 8081, ipaddress.ip_address("172.18.0.2"))
    assert refused(PUBLIC, "searxng", 8080, ipaddress.ip_address("172.18.0.2"))


# --- reading an address


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("http://a.example", "http://a.example/", "a.example", 80),
        (" HTTPS://A.Example:443/x?y#z ", "https://a.example/x?y", "a.example", 443),
        ("https://a.example./x", "https://a.example/x", "a.example", 443),
        ("http://a.example:8080/%2F..%2f?q=%41&r=a+b", "http://a.example:8080/%2F..%2f?q=%41&r=a+b", "a.example", 8080),
        ("http://пример.рф/путь?q=дождь", "http://xn--e1afmkfd.xn--p1ai/%D0%BF%D1%83%D1%82%D1%8C?q=%D0%B4%D0%BE%D0%B6%D0%B4%D1%8C",
         "xn--e1afmkfd.xn--p1ai", 80),
        ("http://bücher.example", "http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80),
        ("http://1.2.3.4:81/", "http://1.2.3.4:81/", "1.2.3.4", 81),
        ("http://[2606:4700:0::1111]/", "http://[2606:4700::1111]/", "2606:4700::1111", 80),
        ("http://a_b.example/|^{}", "http://a_b.example/%7C%5E%7B%7D", "a_b.example", 80),
    ],
)  # fmt: skip
def test_an_address_is_read_and_sent_as_it_is(text, url, host, port):
    target = checked_url(text)

    assert (str(target.url), target.host, target.port) == (url, host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", "a.example", "//a.example", "http:/a.example", "http:a.example", "http://", "http:///x", "http://:80/",
        "ftp://a.example", "file:///etc/passwd", "gopher://a.example", "data:text/html,x", "javascript:alert(1)",
        "unix:///run/x", "jar:http://a.example", "http+unix://x", "dict://a.example",
        "http://user@a.example", "http://user:pass@a.example", "http://@a.example", "http://a.example@127.0.0.1/",
        "http://127.0.0.1\\@a.example/", "http://a.example\\@127.0.0.1/", "http://a.example\\/x",
        "http://a.example:0/", "http://a.example:65536/", "http://a.example:-1/", "http://a.example:8a/",
        "http://a.example:８０/", "http://a:80:90/",
        "http://2130706433/", "http://0x7f.1/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
        "http://127.0.1/", "http://127.0.0.01/", "http://017700000001/", "http://0/", "http://0.0.0.0.0/",
        "http://1.2.3.4.5/", "http://256.1.1.1/", "http://a.0x7f/", "http://a.123/", "http://0x/",
        "http://１２７.1/", "http://①②⑦.1/",
        "http://[::1/", "http://::1/", "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://[v1.x]/", "http://[127.0.0.1]/",
        "http://a.example\t/", "http://a.exam\nple/", "http://a.example/ x", "http://a\u00a0b.example/",
        "http://a%2eexample/", "http://%31%32%37.0.0.1/", "http://a..example/", "http://.example/", "http://a.example../",
        "http://-a.example/", "http://a-.example/", "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://a.example/" + "x" * 9000, "http://a.example/\ud800", "http://a<b>.example/", "http://*.example/",
        "http://exa\u2028mple/",
    ],
)  # fmt: skip
def test_an_address_that_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(UrlRefused):
        checked_url(text)


@pytest.mark.parametrize("text", ["http://127.0.0.1/", "http://127.0.0.1./", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
                                  "http://[::]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://0.0.0.0/",
                                  "http://１２７.０.０.１/", "http://①②⑦.0.0.1/", "http://169.254.169.254/latest/",
                                  "http://127。0。0。1/", "http://[0:0:0:0:0:0:0:1]/",
                                  "http://[2002:7f00:1::]/"])  # fmt: skip
def test_a_host_that_is_a_closed_address_is_refused_however_it_is_written(text):
    with pytest.raises(UrlRefused):
        PUBLIC.check_target(checked_url(text))


@given(st.text() | st.text(alphabet="htps:/@\\.[]%#?0x127a\t ").map(lambda rest: "http://" + rest))
def test_what_is_read_is_sent_to_the_host_that_was_read(text):
    try:
        target = checked_url(text)
    except UrlRefused:
        return

    again = checked_url(str(target.url))
    assert (again.host, again.port, str(again.url)) == (target.host, target.port, str(target.url))
    assert str(target.url).isascii()
    assert "@" not in target.url.raw_authority


# --- resolving


def answering(*answers):
    asked = []

    async def lookup(host, port):
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return lookup


async def test_every_address_of_a_host_is_checked():
    with pytest.raises(UrlRefused):
        await GuardedResolver(PUBLIC, answering(["1.1.1.1", "10.0.0.1"])).resolve("h.example", 443)


async def test_the_addresses_that_were_checked_are_those_to_connect_to():
    found = await GuardedResolver(PUBLIC, answering(["1.1.1.1", "2606:4700::1111"])).resolve("h.example", 443)

    assert [(item["hostname"], item["host"], item["port"]) for item in found] == [
        ("h.example", "1.1.1.1", 443),
        ("h.example", "2606:4700::1111", 443),
    ]


async def test_a_host_without_addresses_is_not_found():
    with pytest.raises(OSError, match="no address"):
        await GuardedResolver(PUBLIC, answering([])).resolve("h.example", 443)
