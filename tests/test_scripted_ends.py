"""How the scripted upstream ends: mistakes fail a test, and nothing outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.scripted import (
    Close,
    Head,
    MalformedRequest,
    Pause,
    Recorded,
    ScriptedUpstream,
    Send,
    Step,
    chat_json,
)
from tests.test_scripted import GET, HEAD, dial


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\nx",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000,
    ],
)
async def test_a_malformed_request_fails_the_test(request_bytes: bytes) -> None:
    """What is not HTTP/1.1 is not answered, and leaving the block raises it."""
    with pytest.raises(MalformedRequest):
        await ask_alone(chat_json("hi"), request_bytes)


async def test_a_mistake_in_a_script_fails_the_test() -> None:
    """No script, one that raises, or one with something that is no step: the block raises it."""

    def broken(request: Recorded) -> list[Step]:
        raise ZeroDivisionError

    for script, error in ((None, LookupError), (broken, ZeroDivisionError), ("x", TypeError)):
        with pytest.raises(error):
            await ask_alone(script, GET)


async def ask_alone(script: Any, request: bytes) -> None:
    """One request to an upstream of its own, which must not answer it."""
    async with ScriptedUpstream() as up:
        if script:
            up.script(script)
        async with dial(up) as (reader, writer):
            writer.write(request)
            (got,) = await asyncio.gather(reader.read(), return_exceptions=True)
        assert got == b"" or isinstance(got, OSError)


async def test_leaving_stops_everything() -> None:
    """Leaving the block ends a script that pauses, and its client's connection, at once."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as http:
        async with ScriptedUpstream() as up:
            up.script([Head(), Send(b"x"), Pause(asyncio.Event())])
            answer = await http.get(up.url)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        assert asyncio.all_tasks() == before
    assert up.closed_at == {}


async def test_a_client_that_does_not_read_holds_the_script_back() -> None:
    """Send waits until the kernel has taken its bytes, so that buffers stay bounded."""
    reached: list[str] = []

    def script(request: Recorded) -> Iterator[Step]:
        yield Head()
        yield Send(b"x" * 50_000_000)
        reached.append("close")
        yield Close()

    async with ScriptedUpstream() as up, dial(up) as (reader, writer):
        up.script(script)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await up.wait_requests(1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert reached == []
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await reader.read()) == len(HEAD) + len(b"2faf080\r\n\r\n") + 50_000_000
        assert reached == ["close"]
