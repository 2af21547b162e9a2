"""Who asks: the address that is believed, whatever a client writes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from proxy.web.read import client_address
from tests.gateway import open_gateway
from tests.scripted import ScriptedUpstream
from tests.web.raw import connected

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7", "2001:db8:aa::/48", "::1")))
PEER = "10.0.0.1"


def address_of(peer: str, *forwarded: str) -> str:
    headers = CIMultiDict(("X-Forwarded-For", value) for value in forwarded)
    return client_address(make_mocked_request("GET", "/", headers).clone(remote=peer), TRUSTED)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        # not from a proxy: nothing that it says is believed
        ("198.51.100.1", ["203.0.113.5"], "198.51.100.1"),
        ("198.51.100.1", ["10.0.0.1, 10.0.0.1"], "198.51.100.1"),
        ("2001:db8:bb::1", ["203.0.113.5"], "2001:db8:bb::1"),
        # from one
        (PEER, [], PEER),
        (PEER, [""], PEER),
        (PEER, ["203.0.113.5"], "203.0.113.5"),
        (PEER, ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
        (PEER, ["1.1.1.1,203.0.113.5 , 192.0.2.7"], "203.0.113.5"),
        (PEER, ["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
        # a line of the client's own, and the proxy's behind it
        (PEER, ["1.1.1.1", "203.0.113.5"], "203.0.113.5"),
        (PEER, ["10.0.0.2", "203.0.113.5", "10.0.0.3"], "203.0.113.5"),
        # what is no address is told as it is, and hides what is before it
        (PEER, ["unknown"], "unknown"),
        (PEER, ["1.1.1.1, unknown"], "unknown"),
        (PEER, ["203.0.113.5, , 10.0.0.2"], "10.0.0.2"),
        (PEER, ['1.1.1.1, "><script>, 192.0.2.7'], '"><script>'),
        (PEER, ["1.1.1.1, 010.0.0.2"], "010.0.0.2"),
        (PEER, ["1.1.1.1, 0x0a000002"], "0x0a000002"),
        (PEER, ["1.1.1.1, 10.0.0.2/8"], "10.0.0.2/8"),
        (PEER, ["1.1.1.1, 999.1.1.1"], "999.1.1.1"),
        (PEER, ["1.1.1.1, fe80::1%eth0"], "fe80::1%eth0"),
        (PEER, ["1.1.1.1, " + "x" * 100], "x" * 64),
        # ports and brackets, as some proxies write them
        (PEER, ["203.0.113.5:4711"], "203.0.113.5"),
        (PEER, ["[2001:db8::5]:4711"], "2001:db8::5"),
        (PEER, ["[2001:db8::5]"], "2001:db8::5"),
        (PEER, ["203.0.113.5, 10.0.0.2:443"], "203.0.113.5"),
        (PEER, ["1.1.1.1, [10.0.0.2"], "[10.0.0.2"),
        # one address in two notations
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        (PEER, ["203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
        (PEER, ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::1", ["2001:DB8::0005, 2001:db8:aa:0::1"], "2001:db8::5"),
        ("2001:db8:aa::1", ["203.0.113.5"], "203.0.113.5"),
        ("2001:db8:ab::1", ["203.0.113.5"], "2001:db8:ab::1"),
        # what a listener has that is on no network
        ("", ["203.0.113.5"], ""),
    ],
)
def test_the_last_that_no_proxy_added(peer: str, forwarded: list[str], expected: str) -> None:
    """It is the last address that none of the trusted added, in its usual notation."""
    assert address_of(peer, *forwarded) == expected


def test_no_chain_is_too_long() -> None:
    """Of a chain that only seems to be of proxies, the last 32 are looked at."""
    chain = [f"10.0.{i // 256}.{i % 256}" for i in range(500)]
    assert address_of(PEER, ",".join(chain)) == chain[-32]


def test_nobody_is_trusted_by_default() -> None:
    """Without trusted proxies the peer is who asks."""
    http = make_mocked_request("GET", "/", {"X-Forwarded-For": "203.0.113.5"})
    assert client_address(http.clone(remote="10.0.0.1"), ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("target", "status"), [(b"/v1/models", 401), (b"http://elsewhere/v1/models", 400)]
)
async def test_the_log_has_it(
    store_url: str, upstream: ScriptedUpstream, target: bytes, status: int
) -> None:
    """The log's line tells it, of requests that no route has seen, too."""
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    async with open_gateway(store_url, upstream.url, server=server) as gate:
        async with connected(gate.url) as client:
            head = (
                b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.5\r\n\r\n"
            )
            await client.send(head)
            assert (await client.answer()).status == status
        (line,) = gate.log_lines()
    assert line["client"] == "203.0.113.5"
