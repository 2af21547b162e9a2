"""Fetches by way of a configured proxy."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from yarl import URL

from proxy.domain.errors import ImageRefused
from tests.images.origin import PNG, RULES, Origin, reply

HTTP = "http://pub.example/a"
HTTPS = "https://pub.example/a"
MAX = 1 << 20
PROXY = URL("http://proxy.corp.example:3128")


async def test_egress_proxy(origin: Origin) -> None:
    """A configured proxy carries every request but those for internal hosts."""
    origin.names |= {"proxy.corp.example": ["10.9.9.9"], "files.corp.example": ["10.0.0.7"]}
    origin.on(HTTP, reply())
    origin.on("/a", reply())
    rules = (replace(RULES[0], internal=("files.corp.example",)),)
    proxy = URL("http://me:word@proxy.corp.example:3128")
    async with origin.fetcher(egress_proxy=proxy) as fetcher:
        await fetcher.fetch(HTTP, rules, MAX, "key")
        await fetcher.fetch("http://files.corp.example/a", rules, MAX, "key")
    assert origin.dialled == [("10.9.9.9", 3128), ("10.0.0.7", 80)]
    by_proxy, direct = origin.requests
    assert (by_proxy.path, direct.path) == (HTTP, "/a")
    assert by_proxy.header("proxy-authorization")
    assert not direct.header("proxy-authorization")


async def test_egress_proxy_and_tls(origin: Origin) -> None:
    """Through a proxy's tunnel TLS is the image host's own, by its name."""
    origin.names["proxy.corp.example"] = ["10.9.9.9"]
    origin.on("/a", reply())
    heads: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        inner, outer = await asyncio.open_connection("127.0.0.1", origin.secure.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pour(reader, outer), pour(inner, writer))

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as server:
        origin.ports[3128] = server.sockets[0].getsockname()[1]
        async with origin.fetcher(egress_proxy=PROXY) as fetcher:
            assert (await fetcher.fetch(HTTPS, RULES, MAX, "key")).data == PNG
    assert heads[0].startswith(b"CONNECT pub.example:443 HTTP/1.1\r\n")
    assert origin.dialled == [("10.9.9.9", 3128)]
    assert origin.secure.named == ["pub.example"]


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def test_a_proxy_that_refuses(origin: Origin) -> None:
    """A proxy that will not open a tunnel is one more way to be unreachable."""
    origin.names["proxy.corp.example"] = ["10.9.9.9"]
    async with origin.fetcher(egress_proxy=PROXY) as fetcher:
        with pytest.raises(ImageRefused) as refused:
            await fetcher.fetch(HTTPS, RULES, MAX, "key")
    assert (refused.value.reason, refused.value.cause) == ("unreachable", "proxy")


async def test_names_before_a_proxy(origin: Origin) -> None:
    """A name that is inner for us goes to no proxy; one that is unknown to us may be its own."""
    origin.names |= {"proxy.corp.example": ["10.9.9.9"], "in.example": ["10.0.0.1"]}
    origin.on("http://out.example/a", reply())
    async with origin.fetcher(egress_proxy=PROXY) as fetcher:
        with pytest.raises(ImageRefused) as refused:
            await fetcher.fetch("http://in.example/a", RULES, MAX, "key")
        assert (refused.value.cause, origin.dialled) == ("blocked", [])
        assert (await fetcher.fetch("http://out.example/a", RULES, MAX, "key")).data == PNG
