"""Delivery: pauses, ends, and calls that are over."""

from __future__ import annotations

import asyncio

import pytest

from proxy.domain.errors import Forbidden, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Outgoing, Timeouts
from proxy.upstream.direct import DirectTransport
from tests.gateway import until
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Raw,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    chat_json,
)
from tests.upstream.asking import HANG, PATIENT, answered, ask, opened, talking


async def test_what_came_before_a_fault(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """Bytes that came before a connection broke are delivered, and then the fault is told."""
    upstream.script([Head(), Send(b"one"), Send(b"two"), Close()])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    parts: list[bytes] = []
    async with answered(transport.open(asked, lambda: None)) as call:
        parts.append(await call.first())
        await until(lambda: call.connection.closing)
        with pytest.raises(UpstreamFailed):
            await call.deliver(parts.append)
    assert b"".join(parts) == b"onetwo"


async def test_a_paused_call_holds_the_upstream(transport: DirectTransport) -> None:
    """While a client does not read, the upstream can send no more than the buffers take."""
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.transport.set_write_buffer_limits(0)
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                written += 65536
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    got = 0

    def sink(data: bytes) -> None:
        nonlocal got
        got += len(data)
        call.pause()

    asked = Outgoing(f"http://127.0.0.1:{port}/", {}, [b"{}"], PATIENT)
    async with answered(transport.open(asked, lambda: None)) as call:
        delivery = asyncio.create_task(call.deliver(sink))
        last = -1
        while written != last:  # until it can write no more
            last = written
            await asyncio.sleep(0.05)
        assert 0 < got <= 1 << 20
        assert written < 16 << 20
        before = written
        for _ in range(100):
            call.resume()
            await asyncio.sleep(0)
        await until(lambda: written > before)
        delivery.cancel()
        await asyncio.gather(delivery, return_exceptions=True)
    server.close()


async def test_a_body_that_ends_with_its_connection(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """Where nothing tells a body's length, a close ends it, and a reset breaks it off."""
    plain = b"HTTP/1.0 200 OK\r\n\r\n"
    upstream.script([Raw(plain + b"all"), Close()])
    assert await ask(transport, upstream) == b"all"
    upstream.script([Raw(plain + b"part"), Sleep(0.05), Reset()])
    with pytest.raises(UpstreamFailed):
        await ask(transport, upstream)


async def test_a_call_that_is_over_has_no_hold_on_its_connection(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """Whoever still pauses, resumes or aborts a call that is over does not touch the next one,
    which has its connection."""
    go_on = asyncio.Event()
    upstream.script(chat_json("Hi"))
    upstream.script([Head(), Send(b"one"), Pause(go_on), Send(b"two"), End()])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    async with answered(transport.open(asked, lambda: None)) as past:
        await past.read(10_000)
        past.pause()
    async with answered(transport.open(asked, lambda: None)) as call:
        assert await call.first() == b"one"
        past.abort(Forbidden("late"))
        past.resume()
        go_on.set()
        assert await call.read(10) == b"two"
    assert upstream.connections == 1


async def test_a_sink_that_pauses_and_resumes(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """A sink may pause and resume its call: pieces come one after the other, in order."""
    words = [b"%d " % at for at in range(3000)]
    upstream.script([Head(), *map(Send, words), End()])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    got: list[bytes] = []
    inside = False

    def sink(data: bytes) -> None:
        nonlocal inside
        assert not inside
        inside = True
        got.append(data)
        call.pause()
        call.resume()
        inside = False

    async with answered(transport.open(asked, lambda: None)) as call:
        await until(lambda: call._done)  # all is held
        await call.deliver(sink)
    assert b"".join(got) == b"".join(words)
    assert len(got) > 2000  # a piece as it was sent


async def test_a_sink_that_aborts(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """A sink that aborts its call gets nothing more."""
    upstream.script([Head(), Send(b"one"), Send(b"two"), End()])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    got: list[bytes] = []

    def sink(data: bytes) -> None:
        got.append(data)
        call.abort(Forbidden("enough"))

    async with answered(transport.open(asked, lambda: None)) as call:
        await until(lambda: call._done)
        with pytest.raises(Forbidden):
            await call.deliver(sink)
    assert got == [b"one"]


async def test_a_fault_while_a_call_is_paused(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """What came before a fault is delivered when the client takes it, and then the fault."""
    upstream.script([Head(), Send(b"one"), Send(b"two"), Raw(b"5\r\nthreezz")])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    got: list[bytes] = []
    async with answered(transport.open(asked, lambda: None)) as call:
        call.pause()
        delivery = asyncio.create_task(call.deliver(got.append))
        await until(lambda: call.connection.closing)
        await asyncio.sleep(0)
        assert (got, delivery.done()) == ([], False)
        call.resume()
        call.connection.data_received(b"4\r\nfour\r\n")  # which was under way
        with pytest.raises(UpstreamFailed):
            await delivery
    assert b"".join(got) == b"onetwothree"


async def test_the_chunks_that_bytes_came_in(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """Bytes that pass as they come have their chunks beside them, and those held have none."""
    upstream.script([Head(), Send(b"one"), HANG])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    got: list[tuple[bytes, bytes]] = []
    async with answered(transport.open(asked, lambda: None)) as call:
        assert await call.first() == b"one"
        delivery = asyncio.create_task(call.deliver(lambda data: got.append((data, call.chunks))))
        await asyncio.sleep(0)
        call.connection.data_received(b"3\r\nnew\r\n")
        call.pause()
        call.connection.data_received(b"4\r\nheld\r\n")
        call.resume()
        call.abort(Forbidden("enough"))
        with pytest.raises(Forbidden):
            await delivery
    assert got == [(b"new", b"3\r\nnew\r\n"), (b"held", b"")]


async def test_the_total_deadline_ends_a_paused_call(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """A client that never reads on does not keep a call beyond its time."""
    upstream.script([Head(), Send(b"one"), HANG])
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], Timeouts(2, 2, 2, 0.2))
    async with answered(transport.open(asked, lambda: None)) as call:
        call.pause()
        with pytest.raises(UpstreamTimeout):
            await call.deliver(print)


async def test_many_small_chunks(transport: DirectTransport) -> None:
    """A hundred thousand chunks take a time in proportion."""
    wire = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + wire)

    async with talking(talk) as url:
        async with asyncio.timeout(2):
            assert len((await opened(transport, url))[1]) == 100_000
