"""Where a provider is: addresses by name, kept for a while."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from proxy.domain.errors import UpstreamFailed
from proxy.upstream import pool
from proxy.upstream.direct import DirectTransport
from tests.scripted import (
    End,
    Head,
    ScriptedUpstream,
    chat_json,
)
from tests.upstream.asking import at, opened, resolving, talking


async def test_an_address_that_is_dead(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several addresses the first that answers is used."""
    asked = resolving(monkeypatch, lambda _: [at(9), at(upstream.port)])
    upstream.script([Head(200, (("Connection", "close"),)), End()])
    url = f"http://two.example:{upstream.port}/x"
    await asyncio.gather(*(opened(transport, url) for _ in range(3)))
    await opened(transport, url)
    assert asked == ["two.example"]  # once


async def test_a_name_server_that_is_away(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a name cannot be asked for again, its last addresses are used."""
    answers = [[at(upstream.port)]]

    def found(_: str) -> list[Any]:
        if not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "not now")
        return answers.pop()

    monkeypatch.setattr(pool, "_NAMES_FOR", 0.0)
    resolving(monkeypatch, found)
    upstream.script([Head(200, (("Connection", "close"),)), End()])
    for _ in range(2):
        await opened(transport, f"http://a.example:{upstream.port}/x")
    assert not answers


async def test_a_server_that_moves(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose addresses do not answer is asked for again, and has the new ones at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        answers = [[at(taken.getsockname()[1])], [at(upstream.port)]]
        asked = resolving(monkeypatch, lambda _: answers.pop(0))
        upstream.script(chat_json("Hi"))
        url = f"http://a.example:{upstream.port}/x"
        with pytest.raises(UpstreamFailed):
            await opened(transport, url)
        await opened(transport, url)
    assert asked == ["a.example"] * 2


async def test_each_address_in_its_turn(
    transport: DirectTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a name has several addresses, new connections are spread over them."""
    async with ScriptedUpstream() as one, ScriptedUpstream() as two:
        resolving(monkeypatch, lambda _: [at(one.port), at(two.port)])
        for up in (one, two):
            up.script([Head(200, (("Connection", "close"),)), End()])
        for _ in range(4):
            await opened(transport, f"http://a.example:{one.port}/x")
        assert (one.connections, two.connections) == (2, 2)


@pytest.mark.parametrize("wrong", [OSError("no"), UnicodeError("idna")])
async def test_a_name_that_there_is_not(
    transport: DirectTransport, monkeypatch: pytest.MonkeyPatch, wrong: Exception
) -> None:
    """A name that cannot be looked up is a failure that bills nothing."""

    def found(_: str) -> list[Any]:
        raise wrong

    resolving(monkeypatch, found)
    with pytest.raises(UpstreamFailed) as caught:
        await opened(transport, "http://a.example/x")
    assert not caught.value.billed


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://a.example/v1/x?y=%20z", "a.example", "/v1/x?y=%20z"),
        ("http://user:word@a.example:8080", "a.example:8080", "/"),
        ("https://a.example:443/x#y", "a.example", "/x"),
        ("http://[::1]:8080/x", "[::1]:8080", "/x"),
        ("https://b\u00fccher.example/x", "xn--bcher-kva.example", "/x"),
        ("https://a.example./x", "a.example", "/x"),
    ],
)
def test_what_a_url_asks_for(url: str, host: str, target: str) -> None:
    """The Host header and the request's target are as RFC 9112, 3.2 has them."""
    assert pool.located(url)[1:] == (host, target)


async def test_ipv6(transport: DirectTransport) -> None:
    """A server that has an IPv6 address alone is reached."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"\r\nhost: [::1]:" in await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with talking(talk, "::1") as url:
        assert (await opened(transport, url))[1] == b"{}"
