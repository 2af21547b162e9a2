"""Fetches as transcripts: what is asked, what comes back, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from proxy.domain.errors import ImageRefused
from proxy.images.visit import WINDOW
from tests.images.origin import PNG, RULES, Origin, chunked, moved, refusal, reply
from tests.images.samples import SAMPLES, make_image
from tests.scripted import Head, Pause, Send

URL = "http://pub.example/a"
MAX = 1 << 20


async def test_whole_image(origin: Origin) -> None:
    """A fetch gives the bytes as they are, with their size and the type that they have."""
    origin.on("/a", reply(PNG, kind="application/octet-stream"))
    async with origin.fetcher() as fetcher:
        found = await fetcher.fetch(URL, RULES, MAX, "key")
    assert (found.data, found.media_type) == (PNG, "image/png")
    assert (found.info.width, found.info.height, found.info.frames) == (8, 6, 1)


async def test_what_is_sent(origin: Origin) -> None:
    """A request is one GET that asks for no encoding and tells nothing of anybody."""
    origin.on("/a?sig=%2B/b", reply())
    async with origin.fetcher() as fetcher:
        await fetcher.fetch(URL + "?sig=%2B/b", RULES, MAX, "key")
    (request,) = origin.requests
    assert (request.method, request.path) == ("GET", "/a?sig=%2B/b")
    assert {name.lower(): value for name, value in request.headers} == {
        "host": "pub.example",
        "accept": "image/png, image/jpeg, image/gif, image/webp",
        "accept-encoding": "identity",
        "user-agent": "visiongate",
        "connection": "close",
    }


async def test_no_cookie_comes_back(origin: Origin) -> None:
    """A cookie is neither kept nor sent, not even on the next hop."""
    origin.on("/a", moved("/b", 302, ("Set-Cookie", "a=b")))
    origin.on("/b", reply(PNG, 200, ("Set-Cookie", "c=d"), ("Cache-Control", "no-store")))
    async with origin.fetcher() as fetcher:
        await fetcher.fetch(URL, RULES, MAX, "key")
        await fetcher.fetch(URL, RULES, MAX, "key")
    assert origin.paths == ["/a", "/b", "/a", "/b"]
    assert not any(request.header("cookie") for request in origin.requests)


async def test_peek_asks_for_a_part(origin: Origin) -> None:
    """A peek asks for the first bytes, and a matching 206 is enough."""
    body = PNG.ljust(WINDOW, b"\0")
    part = ("Content-Range", f"bytes 0-{WINDOW - 1}/100000")
    origin.on("/a", reply(body, 206, part))
    async with origin.fetcher() as fetcher:
        info = await fetcher.peek(URL, RULES, MAX, "key")
    assert (info.format, info.width, info.height) == ("png", 8, 6)
    (request,) = origin.requests
    assert (request.method, request.header("range")) == ("GET", f"bytes=0-{WINDOW - 1}")


async def test_peek_of_a_small_image(origin: Origin) -> None:
    """A 206 that holds all there is, less than was asked for, is a matching one."""
    origin.on("/a", reply(PNG, 206, ("Content-Range", f"bytes 0-{len(PNG) - 1}/{len(PNG)}")))
    async with origin.fetcher() as fetcher:
        assert (await fetcher.peek(URL, RULES, MAX, "key")).width == 8
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "header",
    [
        *("bytes 1-{}/100", "bytes 0-99999/*", "bytes 0-{}/5", "bytes */100", "", "octets 0-9/99"),
        *("bytes 0-3/100", "bytes 0-{}/100, bytes 0-3/100"),
    ],
)
async def test_peek_of_another_part(origin: Origin, header: str) -> None:
    """A 206 without the Content-Range that was asked for does not count: all is asked for."""
    wrong = reply(PNG, 206, ("Content-Range", header.format(len(PNG) - 1)))
    origin.on("/a", lambda r: wrong if r.header("range") else reply(SAMPLES["gif"]))
    async with origin.fetcher() as fetcher:
        assert (await fetcher.peek(URL, RULES, MAX, "key")).format == "gif"
    assert [bool(request.header("range")) for request in origin.requests] == [True, False]


async def test_peek_of_all_there_is(origin: Origin) -> None:
    """Where the part is the whole and has no size, nothing more is asked for."""
    origin.on("/a", reply(PNG[:20], 206, ("Content-Range", "bytes 0-19/20")))
    assert (await refusal(origin, URL, "peek")).reason == "truncated"
    assert len(origin.requests) == 1


async def test_a_part_that_nobody_asked_for(origin: Origin) -> None:
    """A 206 to a request for the whole is refused."""
    part = ("Content-Range", f"bytes 0-{len(PNG) - 1}/{len(PNG)}")
    origin.on("/a", reply(PNG, 206, part))
    assert (await refusal(origin, URL)).cause == "status"


async def test_peek_reads_as_far_as_it_takes(origin: Origin) -> None:
    """A host that knows no ranges is read on until the size is known, and no further."""
    hold = asyncio.Event()
    jpeg = make_image("JPEG", icc_profile=bytes(200_000))
    frame = jpeg.index(b"\xff\xc0") + 9
    origin.on("/a", [Head(200, (), chunked=True), Send(jpeg[:frame]), Pause(hold)])
    async with origin.fetcher() as fetcher:
        info = await fetcher.peek(URL, RULES, MAX, "key")
        assert (info.format, info.width, frame > 200_000) == ("jpeg", 8, True)
        await origin.plain.wait_closed(1)


async def test_peek_beyond_a_part(origin: Origin) -> None:
    """Where the size lies behind the part, the whole is asked for."""
    jpeg = make_image("JPEG", icc_profile=bytes(200_000))
    part = reply(jpeg[:WINDOW], 206, ("Content-Range", f"bytes 0-{WINDOW - 1}/{len(jpeg)}"))
    origin.on("/a", lambda r: part if r.header("range") else reply(jpeg))
    async with origin.fetcher() as fetcher:
        assert (await fetcher.peek(URL, RULES, MAX, "key")).format == "jpeg"
    assert len(origin.requests) == 2


async def test_peek_of_a_drip(origin: Origin) -> None:
    """A peek ends with the byte that tells the size, however slowly they come."""
    hold = asyncio.Event()
    origin.on("/a", [Head(200, ()), *(Send(PNG[n : n + 1]) for n in range(33)), Pause(hold)])
    async with origin.fetcher() as fetcher:
        assert (await fetcher.peek(URL, RULES, MAX, "key")).height == 6


async def test_peek_over_tls(origin: Origin) -> None:
    """A peek over TLS waits for no farewell either."""
    origin.on("/a", [Head(200, ()), Send(PNG[:33]), Pause(asyncio.Event())])
    async with asyncio.timeout(5), origin.fetcher() as fetcher:
        assert (await fetcher.peek("https://pub.example/a", RULES, MAX, "key")).width == 8
        await origin.secure.wait_closed(1)


async def test_an_image_without_a_size(origin: Origin) -> None:
    """The search for a size ends at 1 MiB, though the image may have more bytes."""
    segment = b"\xff\xe2\xff\xff" + bytes(65533)
    sent: list[int] = []

    def parts() -> Iterator[bytes]:
        yield b"\xff\xd8"
        for n in range(300):
            sent.append(n)
            yield segment

    origin.on("/a", lambda _: chunked(parts(), "image/jpeg"))
    async with origin.fetcher() as fetcher:
        with pytest.raises(ImageRefused) as refused:
            await fetcher.peek(URL, RULES, 20 << 20, "key")
        await origin.plain.wait_closed(1)
    assert refused.value.reason == "truncated"
    assert len(sent) < 100
