"""Request bodies: whole, in pieces, and to servers that do not read."""

from __future__ import annotations

import asyncio

import pytest

from proxy.domain.errors import UpstreamTimeout
from proxy.upstream.call import Outgoing, Timeouts
from proxy.upstream.direct import DirectCall, DirectTransport
from tests.gateway import until
from tests.scripted import (
    ScriptedUpstream,
    chat_json,
)
from tests.upstream.asking import PATIENT, answered, ask, opened, talking


async def test_a_large_body(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """A body of many megabytes arrives whole, and the connection is kept after it."""
    upstream.script(chat_json("Hi"))
    body = bytes(range(256)) * (20 << 12)
    for _ in range(2):
        await ask(transport, upstream, body)
    assert [sent.body == body for sent in upstream.requests] == [True, True]
    assert upstream.connections == 1


async def test_a_body_in_pieces(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """Pieces, large ones and small ones, arrive as one body."""
    upstream.script(chat_json("Hi"))
    pieces = [b"[", memoryview(b"x" * 100_000), b",", b"y" * 65_536, b"]"]
    asked = Outgoing(f"{upstream.url}/x", {}, pieces, PATIENT)
    async with answered(transport.open(asked, lambda: None)) as call:
        await call.read(10_000)
    assert upstream.requests[0].body == b"".join(pieces)


async def test_an_answer_before_the_request_was_read(transport: DirectTransport) -> None:
    """A server that refuses a body unread is heard, and its connection is not kept."""
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        reader._transport.pause_reading()
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for _ in range(2):
        _, body = await opened(transport, url, b"x" * (32 << 20))
        assert body == b"{}"
    gone.set()
    assert connections == 2
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "timeouts", [Timeouts(2, 0.1, 9, 9), Timeouts(2, 9, 9, 0.1)], ids=["first_byte", "total"]
)
async def test_a_server_that_does_not_read(transport: DirectTransport, timeouts: Timeouts) -> None:
    """The deadlines hold while a body is being written."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()

    async with talking(deaf) as url:
        with pytest.raises(UpstreamTimeout):
            await opened(transport, url, b"x" * (20 << 20), timeouts)
        await until(lambda: transport.busy == 0)


async def test_leaving_while_a_body_is_written(transport: DirectTransport) -> None:
    """Who is cancelled while it sends leaves no connection behind."""
    begun = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reader._transport.pause_reading()
        begun.set()

    async with talking(deaf) as url:
        asking = asyncio.create_task(opened(transport, url, b"x" * (20 << 20)))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: transport.busy == 0)


async def test_an_answer_and_an_end_before_the_request_was_read(
    transport: DirectTransport,
) -> None:
    """A body that ends with its connection has ended, though the server never read the request."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()
        writer.write(b"HTTP/1.1 413 Too Large\r\n\r\nno")
        writer.write_eof()

    async with talking(refuse) as url:
        async with asyncio.timeout(1):
            assert (await opened(transport, url, b"x" * (32 << 20)))[1] == b"no"
        await until(lambda: transport.busy == 0)


async def test_a_second_try_that_is_left_half_way(
    transport: DirectTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection on which a part of a request was sent again carries no other request."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections == 1:  # well at first, and then gone once all of the next is there
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await asyncio.wait_for(_read_up_to(reader, b"the end"), 10)
            writer.transport.abort()
        else:
            reader._transport.pause_reading()
            writer.write(b"HTTP/1.1 429 Slow Down\r\ncontent-length: 2\r\n\r\n{}")
            await left.wait()

    def leave_at_the_answer(call: DirectCall) -> None:
        wake(call)
        if call.status == 429:
            asking.cancel()

    left, wake = asyncio.Event(), DirectCall.wake
    async with talking(serve) as url:
        await opened(transport, url)
        monkeypatch.setattr(DirectCall, "wake", leave_at_the_answer)
        body = [b"x" * (32 << 20), b"the end"]
        call = transport.open(Outgoing(url, {}, body, PATIENT), lambda: None)
        asking = asyncio.create_task(call.head())
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (call.status, connections) == (429, 2)
        call.leave()
        assert call.connection.closing
        left.set()


async def _read_up_to(reader: asyncio.StreamReader, end: bytes) -> None:
    last = b""
    while not last.endswith(end) and not reader.at_eof():
        last = last[-len(end) :] + await reader.read(1 << 20)
