"""Which addresses are public."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.images.addresses import embedded_ipv4, is_public
from tests.images.samples import load_cases

POLICY = load_cases("image_urls.yaml")["policy"]


def ipv4_network(short: str) -> IPv4Network:
    """0/8 and 192.0.0/24 as the case file writes them."""
    base, _, bits = short.partition("/")
    return IPv4Network(".".join((base.split(".") + ["0"] * 3)[:4]) + f"/{bits}")


INNER_4 = [ipv4_network(net) for net in POLICY["ipv4_deny"]]
INNER_6 = [IPv6Network(net) for net in POLICY["ipv6_deny"]]
GLOBAL_6 = IPv6Network(POLICY["ipv6_allow_only"])


@pytest.mark.parametrize("network", [*INNER_4, *INNER_6], ids=str)
def test_edges(network: IPv4Network | IPv6Network) -> None:
    """A denied network is denied from its first address to its last."""
    assert not is_public(network[0])
    assert not is_public(network[-1])


@pytest.mark.parametrize(
    "address",
    [
        *(
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
        ),
        *("128.0.0.0", "168.63.129.15", "168.63.129.17", "172.15.255.255", "172.32.0.0"),
        *("169.253.255.255", "192.0.1.0", "198.20.0.0", "223.255.255.255", "8.8.8.8"),
        *("2001:200::", "2001:db7::", "2003::", "2606:4700::1111", "3ffe::", "2000::"),
    ],
)
def test_neighbours(address: str) -> None:
    """What lies right beside a denied network is public."""
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_ipv4_is_the_published_list(address: IPv4Address) -> None:
    """An IPv4 address is public exactly if the published list does not deny it."""
    assert is_public(address) == (not any(address in net for net in INNER_4))


@given(st.ip_addresses(v=6, network="2000::/3") | st.ip_addresses(v=6))
def test_ipv6_is_the_published_list(address: IPv6Address) -> None:
    """An IPv6 address without another one inside is public as the published lists say."""
    isatap = int(address) >> 32 & 0xFFFF_FFFF in (0x5EFE, 0x0200_5EFE)
    denied = isatap or any(address in net for net in INNER_6)
    if embedded_ipv4(address) is None:
        assert is_public(address) == (address in GLOBAL_6 and not denied)


@given(st.ip_addresses(v=4))
def test_wrapped(address: IPv4Address) -> None:
    """Mapped and NAT64 addresses are judged by what they hold; other wrappings never pass."""
    low, nibbles = int(address), f"{int(address):08x}"
    high, rest = nibbles[:4], nibbles[4:]
    assert is_public(IPv6Address(0xFFFF << 32 | low)) == is_public(address)
    assert is_public(f"64:ff9b::{high}:{rest}") == is_public(address)
    for wrapped in (
        f"::{high}:{rest}",
        f"2002:{high}:{rest}::1",
        f"2001:0:4136:e378:8000:63bf:{high}:{rest}",
        f"2606:4700::5efe:{high}:{rest}",
        f"2606:4700::200:5efe:{high}:{rest}",
        f"64:ff9b:1::{high}:{rest}",
        f"::ffff:0:{high}:{rest}",
    ):
        assert not is_public(wrapped)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "8.8.8", "08.8.8.8", "0x8.8.8.8", "134744072", "8.8.8.8 ", "8.8.8.8/32"),
        *("[2606:4700::1111]", "2606:4700::1111%eth0", "2606:4700::1111%1", "８.8.8.8"),
    ],
)
def test_text(text: str) -> None:
    """Text that is not one address in its usual notation, or has a zone, is not public."""
    assert not is_public(text)


def test_zone_of_an_object() -> None:
    """An address object with a zone is not public either."""
    assert not is_public(ip_address("2606:4700::1111%eth0"))
    assert is_public(ip_address("2606:4700::1111"))
