"""Which addresses are public, by a list of our own.

The standard library's `is_global` is not it: on Python 3.11 it is true for multicast,
NAT64, 6to4 and Azure's wire server, and its list changes with the interpreter.
Sources: the IANA special-purpose address registries (RFC 6890 and successors).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

_IPV4_INNER: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, also used inside clouds
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's wire server: routable by registry, inner in fact
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_IPV6_GLOBAL: Final = IPv6Network("2000::/3")
_IPV6_INNER: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address and a relay's whim
        "3fff::/20",  # documentation
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
#: The upper half of an ISATAP interface identifier (RFC 5214, 6.1), without and with
#: the universal bit.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


def parse_address(text: str) -> Address | None:
    """The address that a text is in its usual notation, a zone included; None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_public(address: str | Address) -> bool:
    """Whether an address may be reached for an image.

    A mapped or NAT64 address is as public as the IPv4 address inside, because resolvers
    hand those out for ordinary hosts. 6to4, Teredo, ISATAP and IPv4-compatible addresses
    are never public, whatever they hold, nor is anything with a zone, nor text that is
    not one address in its usual notation.
    """
    if isinstance(address, str):
        parsed = parse_address(address)
        if parsed is None:
            return False
        address = parsed
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inside = embedded_ipv4(address)
        if inside is None:
            return _is_public_ipv6(address)
        address = inside
    return not any(address in network for network in _IPV4_INNER)


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """The IPv4 address that a mapped (RFC 4291) or NAT64 (RFC 6052) address stands for."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


def _is_public_ipv6(address: IPv6Address) -> bool:
    if address not in _IPV6_GLOBAL or any(address in network for network in _IPV6_INNER):
        return False
    return int(address) >> 32 & 0xFFFF_FFFF not in _ISATAP
