"""Which addresses may be dialled, and how names become addresses."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from proxy.images.dial import Blocked, Dial, SystemResolver, may_reach, open_socket
from proxy.images.urls import UrlRules

PUBLIC = "93.184.216.34"


def make_rules(**changes: Any) -> UrlRules:
    return UrlRules(frozenset({"http"}), frozenset({80}), **changes)


@pytest.mark.parametrize(
    ("address", "changes", "allowed"),
    [
        (PUBLIC, {}, True),
        ("2606:4700::1111", {}, True),
        ("10.0.0.1", {}, False),
        ("::1", {}, False),
        ("::ffff:10.0.0.1", {}, False),
        (PUBLIC, {"deny": ("93.184.0.0/16",)}, False),
        ("::ffff:93.184.216.34", {"deny": ("93.184.0.0/16",)}, False),
        ("10.0.0.1", {"internal": ("10.0.0.0/8",)}, True),
        ("10.0.0.1", {"internal": ("192.168.0.0/16",)}, False),
        ("10.0.0.1", {"internal": ("a.example",)}, True),
        ("10.0.0.1", {"internal": ("*.example",)}, True),
        ("10.0.0.1", {"internal": ("b.example",)}, False),
        ("10.0.0.1", {"internal": ("a.example",), "deny": ("10.0.0.1",)}, False),
        ("10.0.0.1", {"allow": ("a.example", "10.0.0.0/8")}, False),
        ("fe80::1%eth0", {"internal": ("a.example", "fe80::/10")}, False),
        ("localhost", {"internal": ("*",)}, False),
    ],
)
def test_may_reach(address: str, changes: dict[str, Any], allowed: bool) -> None:
    """An address must be public, or internal by its network or its host's name, and not denied."""
    assert may_reach("a.example", address, (make_rules(**changes),)) is allowed


def test_all_rules_must_agree() -> None:
    """What one policy calls internal is dialled only where every policy does."""
    wide = make_rules(internal=("10.0.0.0/8",))
    assert may_reach("a.example", "10.0.0.1", (wide, wide))
    assert not may_reach("a.example", "10.0.0.1", (wide, make_rules()))


async def test_socket_for_an_inner_address() -> None:
    """No socket is made for an address that may not be dialled, and the dial remembers."""
    made: list[Any] = []

    async def resolve(host: str) -> list[str]:
        return [PUBLIC]

    def opened(info: Any) -> socket.socket:
        made.append(info)
        return open_socket(info)

    dial = Dial(lambda address: address == PUBLIC, resolve, opened)
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    dial.open_socket((*info, (PUBLIC, 80))).close()
    assert not dial.blocked
    with pytest.raises(Blocked):
        dial.open_socket((*info, ("10.0.0.1", 80)))
    assert dial.blocked
    assert [address for *_, address in made] == [(PUBLIC, 80)]


async def test_system_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's answers keep their zones, and a link-local one is never public."""
    stream = (socket.AF_INET6, socket.SOCK_STREAM, 6, "")

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        return [
            (*stream, ("fe80::1", 0, 0, 2)),
            (*stream, ("::1", 0, 0, 0)),
            (*stream, (PUBLIC, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = SystemResolver(threads=1)
    assert await resolver("a.example") == ["fe80::1%2", "::1", PUBLIC]
    resolver.close()


async def test_look_ups_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up runs in a thread of the resolver's own: one that hangs takes none from others."""
    names: list[str] = []

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        names.append(threading.current_thread().name)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = SystemResolver(threads=1)
    assert await resolver("a.example") == []
    resolver.close()
    assert names == ["resolve_0"]
