"""A host that lies, floods or drips costs its own image, and nobody else anything."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.domain.errors import ImageRefused
from proxy.images import visit
from proxy.images.sniff import ImageInfo, sniff
from tests.images.origin import (
    PNG,
    PUBLIC,
    QUICK,
    RULES,
    Origin,
    Watch,
    chunked,
    fails,
    hang,
    moved,
    refusal,
    reply,
)
from tests.images.samples import make_image
from tests.scripted import Close, End, Head, Pause, Raw, Reset, Send, Sleep, Split, Step

URL = "http://pub.example/a"
PICTURE = make_image("JPEG", 90, 80, icc_profile=bytes(100_000))
MAX = 1 << 20
WAYS = ("peek", "fetch")


async def test_endless_body(origin: Origin) -> None:
    """Of 300 MiB in chunks the cap and one read are taken, in less than twice the memory."""
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(300 * 16):
            sent += 1 << 16
            yield piece

    piece = bytes(1 << 16)
    origin.on("/a", lambda _: chunked(parts()))
    watch, cap = Watch(), 4 << 20
    async with origin.fetcher(observe=watch) as fetcher:
        tracemalloc.start()
        try:
            with pytest.raises(ImageRefused) as refused:
                await fetcher.fetch(URL, RULES, cap, "key")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await origin.plain.wait_closed(1)
    assert (refused.value.reason, watch.outcomes) == ("too_large", ["too_large"])
    assert str(cap) in refused.value.message
    assert cap < watch.sizes[0] < cap + (1 << 20)
    assert peak < 2 * cap
    assert sent < 4 * cap


async def test_image_at_the_cap(origin: Origin) -> None:
    """An image of just as many bytes as are allowed is whole; one more is too large."""
    origin.on("/a", lambda _: chunked([PNG[:9], PNG[9:]]))
    async with origin.fetcher() as fetcher:
        assert (await fetcher.fetch(URL, RULES, len(PNG), "key")).data == PNG
        with pytest.raises(ImageRefused) as refused:
            await fetcher.fetch(URL, RULES, len(PNG) - 1, "key")
    assert refused.value.reason == "too_large"


@pytest.mark.parametrize("way", WAYS)
async def test_large_by_its_head(origin: Origin, way: str) -> None:
    """A Content-Length over the cap is refused before a byte of the body is read."""
    head = Head(200, (("Content-Length", str(1 << 30)),), chunked=False)
    origin.on("/a", [head, Pause(asyncio.Event())])
    assert (await refusal(origin, URL, way)).reason == "too_large"


async def test_large_by_its_range(origin: Origin) -> None:
    """A peek refuses an image whose Content-Range tells that it is over the cap."""
    part = ("Content-Range", f"bytes 0-{len(PNG) - 1}/{1 << 30}")
    origin.on("/a", reply(PNG, 206, part))
    assert (await refusal(origin, URL, "peek")).reason == "too_large"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("encoding", ["gzip", "br", "x-unknown", "gzip, identity"])
async def test_encoded_body(origin: Origin, encoding: str, way: str) -> None:
    """An encoded body is refused unread: what it would inflate to is never known."""
    bomb = gzip.compress(bytes(10 << 20))
    origin.on("/a", reply(bomb, 200, ("Content-Encoding", encoding)))
    watch = Watch()
    async with origin.fetcher(observe=watch) as fetcher:
        with pytest.raises(ImageRefused) as refused:
            await getattr(fetcher, way)(URL, RULES, MAX, "key")
    assert (refused.value.reason, refused.value.cause) == ("unreachable", "encoding")
    assert watch.sizes == [0]


TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
BROKEN: dict[str, list[Step]] = {
    "truncated": [*reply(PNG, length=len(PNG) + 9)[:-1], Close()],
    "reset": [Head(200, ()), Send(PNG[:40]), Reset()],
    "no last chunk": [Head(200, ()), Send(PNG), Close()],
    "closed unasked": [Close()],
    "huge header": [Head(200, (("X", "y" * 65536),))],
    "many headers": [Head(200, [(f"X-{n}", "y") for n in range(1000)])],
    "no HTTP": [Raw(b"220 mail.example ESMTP\r\n")],
    "two lengths": [Raw(TWO_LENGTHS)],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_answer(origin: Origin, name: str) -> None:
    """An answer that breaks off, or breaks HTTP's rules, is no image."""
    origin.on("/a", BROKEN[name])
    error = await refusal(origin, URL)
    assert (error.reason, error.cause) == ("unreachable", "broken")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (reply(PNG, length=len(PNG) - 9), "truncated"),
        ([Head(200, (), chunked=False), Send(PNG[:-9]), End()], "truncated"),
        (reply(PNG + b"PK\3\4"), "trailing_data"),
        (reply(b"<svg/>"), "not_an_image"),
        (reply(b""), "truncated"),
        (reply(PNG, kind="text/html; charset=utf-8"), "media_type"),
        (reply(make_image("GIF")[:-1]), "truncated"),
    ],
    ids=["wrong length", "ends early", "polyglot", "svg", "empty", "html", "gif"],
)
async def test_faulty_image(origin: Origin, script: list[Step], reason: str) -> None:
    """An image that is not one, or not whole, is refused for what is wrong with it."""
    origin.on("/a", script)
    error = await refusal(origin, URL)
    assert (error.reason, error.cause) == (reason, "")


async def test_looks_at_a_drip(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks at a header grow with the logarithm of its bytes, however they come."""
    looks: list[int] = []

    def look(data: bytes) -> ImageInfo:
        looks.append(len(data))
        return sniff(data)

    monkeypatch.setattr(visit, "sniff", look)
    header = b"\xff\xd8" + b"\xff\xe0\0\2" * 500
    origin.on("/a", [Head(200, ()), Split(header, [1] * len(header)), End()])
    assert (await refusal(origin, URL, "peek")).reason == "truncated"
    assert looks[-1] == len(header)
    assert len(looks) < 80


@pytest.mark.parametrize(
    "script",
    [hang(), [Pause(asyncio.Event())], [Head(200, ()), Raw(b"zz\r\n"), Pause(asyncio.Event())]],
    ids=["body", "head", "framing"],
)
async def test_total_deadline(origin: Origin, script: list[Step]) -> None:
    """A host that does not go on is left after the total deadline."""
    origin.on("/a", script)
    watch = Watch()
    limits = replace(QUICK, total=0.1, wait=50)
    async with asyncio.timeout(5), origin.fetcher(limits, observe=watch) as fetcher:
        assert (await fails(fetcher, URL)).cause == "timeout"
        await origin.plain.wait_closed(1)
    assert watch.outcomes == ["timeout"]


async def test_deadline_of_all_hops(origin: Origin) -> None:
    """The total deadline is one for all hops of a fetch."""
    origin.on("/a", [Sleep(0.15), *moved("/b")])
    origin.on("/b", [Sleep(0.15), *reply()])
    async with origin.fetcher(replace(QUICK, total=0.25)) as fetcher:
        assert (await fails(fetcher, URL)).cause == "timeout"


async def test_waiting_is_apart(origin: Origin) -> None:
    """A fetch may take longer than one may wait for its turn."""
    origin.on("/a", [Sleep(0.15), *reply()])
    async with origin.fetcher(replace(QUICK, wait=0.05)) as fetcher:
        assert (await fetcher.fetch(URL, RULES, MAX, "key")).data == PNG


async def test_connect_deadline(origin: Origin) -> None:
    """A name that is not answered in time, or a host that does not begin TLS, is left."""
    origin.names["slow.example"] = [PUBLIC]
    silent = asyncio.Event()

    async def resolve(host: str) -> list[str]:
        if host == "slow.example":
            await silent.wait()
        return [PUBLIC]

    origin.resolve = resolve
    origin.ports[443] = origin.plain.port
    limits = replace(QUICK, connect=0.1, total=50)
    async with asyncio.timeout(5), origin.fetcher(limits) as fetcher:
        for url in ("http://slow.example/", "https://pub.example/"):
            assert (await fails(fetcher, url)).cause == "timeout"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("head", "more"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 400),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n\xff\r\n" * 2000),
    ],
    ids=["interim", "chunks"],
)
async def test_what_is_hardly_an_image(origin: Origin, way: str, head: bytes, more: bytes) -> None:
    """A host that sends interim answers, or a byte in each chunk, without an end is left soon."""
    sent = 0

    def flood() -> Iterator[Step]:
        nonlocal sent
        yield Raw(head + b"4\r\n\xff\xd8\xff\xff\r\n" * bool(head))
        for _ in range(100_000):
            sent += len(more)
            yield Raw(more)

    origin.on("/a", lambda _: flood())
    refused = await refusal(origin, URL, way)
    await origin.plain.wait_closed(1)
    assert (refused.reason, refused.cause) == ("unreachable", "broken")
    assert sent < 8 << 20  # what the sockets' buffers take


@pytest.mark.parametrize("way", WAYS)
async def test_hints_before_an_image(origin: Origin, way: str) -> None:
    """A few interim answers, and chunks that are small, do an image no harm."""
    hint = Raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    parts = [PICTURE[at : at + 16] for at in range(0, len(PICTURE), 16)]
    origin.on("/a", lambda _: [hint, hint, *chunked(parts)])
    async with origin.fetcher() as fetcher:
        found = await getattr(fetcher, way)(URL, RULES, MAX, "key")
    assert sniff(PICTURE) == getattr(found, "info", found)
