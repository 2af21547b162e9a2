"""Host patterns: `*`, `cdn.example.com`, `*.example.com`, `203.0.113.0/24`.

`*.example.com` matches what is below example.com, not example.com itself. A network
matches addresses only: a name is never resolved here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from yarl import URL

from proxy.images.addresses import Address, embedded_ipv4, parse_address

Network = IPv4Network | IPv6Network

#: RFC 1035, 2.3.4, and the underscore that some buckets have.
HOST_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
MAX_HOST: Final = 253


@dataclass(frozen=True, slots=True)
class HostPatterns:
    """Patterns made ready to match; `suffixes` begin with a dot."""

    anything: bool
    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[Network, ...]

    def match_name(self, name: str) -> bool:
        return self.anything or name in self.names or name.endswith(self.suffixes)

    def match_address(self, address: Address) -> bool:
        inside = embedded_ipv4(address)
        return self.anything or any(
            address in network or (inside is not None and inside in network)
            for network in self.networks
        )

    def cover(self, other: HostPatterns) -> bool:
        """Whether every host that the other matches is matched by these."""
        if self.anything:
            return True
        return (
            not other.anything
            and all(self.match_name(name) for name in other.names)
            and all(suffix.endswith(self.suffixes) for suffix in other.suffixes)
            and all(any(_within(net, wide) for wide in self.networks) for net in other.networks)
        )


@lru_cache(maxsize=256)
def compile_patterns(patterns: tuple[str, ...]) -> HostPatterns:
    """Read host patterns. Raises ValueError naming the one that cannot be read."""
    names: set[str] = set()
    suffixes: list[str] = []
    networks: list[Network] = []
    for pattern in patterns:
        if pattern == "*":
            continue
        if (network := _network(pattern)) is not None:
            networks.append(network)
        elif pattern.startswith("*."):
            suffixes.append("." + _name(pattern[2:], pattern))
        else:
            names.add(_name(pattern, pattern))
    return HostPatterns("*" in patterns, frozenset(names), tuple(suffixes), tuple(networks))


def matches_host(host: str | Address, patterns: tuple[str, ...]) -> bool:
    """Whether a host, a lower-case name or an address, matches one of the patterns.

    Raises ValueError for a pattern that cannot be read.
    """
    compiled = compile_patterns(patterns)
    address = parse_address(host) if isinstance(host, str) else host
    if address is not None:
        return compiled.match_address(address)
    return compiled.match_name(str(host).removesuffix("."))


def _network(pattern: str) -> Network | None:
    try:
        return ip_network(pattern)
    except ValueError:
        return None


def _name(text: str, pattern: str) -> str:
    try:
        name = (URL.build(scheme="http", host=text.removesuffix(".")).raw_host or "").lower()
    except ValueError:
        name = ""
    if len(name) > MAX_HOST or HOST_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{pattern!r} is not a host pattern; write '*', 'cdn.example.com', "
            "'*.example.com' or '203.0.113.0/24'"
        )
    return name


def _within(narrow: Network, wide: Network) -> bool:
    return (
        narrow.version == wide.version
        and narrow.prefixlen >= wide.prefixlen
        and narrow.network_address in wide
    )
