"""Clients that do not read a stream: what is held for them, and for how long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from proxy.web.outlet import Outlet
from proxy.web.pulse import COMMENT
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import End, Head, Pause, Recorded, ScriptedUpstream, Send, Step, sse
from tests.web.books import open_books
from tests.web.raw import RawClient, chat_request, connected

DONE = sse("[DONE]")
FILLER = b":" + b"x" * 65_000 + b"\n\n"
PIECES = 450  # 29 MB, which no two sockets hold
#: uvloop's and asyncio's high-water mark, and the reads of one turn that may come on top of it.
MOST_HELD = 64 * 1024 + 2 * 1024 * 1024

pytestmark = pytest.mark.parametrize("transport", ["direct", "aiohttp"])


class Flood:
    """A script of 29 MB after an event, and how much of it has been sent."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, request: Recorded) -> Iterator[Step]:
        yield Head()
        yield Send(sse({"choices": []}))
        for _ in range(PIECES):
            yield Send(FILLER)
            self.sent += 1
        yield Send(DONE)
        yield End()

    async def stalled(self) -> int:
        """What had been sent when for 100 ms nothing more was."""
        before = -1
        async with asyncio.timeout(4):
            while before != self.sent or not before:
                before = self.sent
                await asyncio.sleep(0.1)
        return self.sent


@pytest.fixture
def outlets(monkeypatch: pytest.MonkeyPatch) -> list[Outlet]:
    """Those that are opened."""
    made: list[Outlet] = []
    start = Outlet.__init__

    def opened(outlet: Outlet, *given: object, **more: object) -> None:
        made.append(outlet)
        start(outlet, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Outlet, "__init__", opened)
    return made


def waiting(outlet: Outlet) -> int:
    """Bytes that its client has not taken."""
    assert outlet._transport is not None
    return outlet._transport.get_write_buffer_size()


def narrow(outlet: Outlet) -> None:
    """Let the network hold little of what goes to its client."""
    assert outlet._transport is not None
    connection = outlet._transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_what_is_held(
    store_url: str, upstream: ScriptedUpstream, outlets: list[Outlet], transport: str
) -> None:
    """For a client that does not read a bounded part is held, the upstream waits, and no comment is
    queued; once it reads, it gets all.
    """
    flood = Flood()
    upstream.script(flood)
    async with (
        open_gateway(
            store_url,
            upstream.url,
            server={"stream_keep_alive": "20ms"},
            providers={"openai": {"transport": transport, "timeouts": {"idle": "300ms"}}},
        ) as gate,
        connected(gate.url, receive_buffer=8192) as client,
    ):
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        assert await flood.stalled() < PIECES * 3 / 4
        assert gate.door.ledger.live == 1
        held = waiting(outlets[0])
        assert 0 < held < MOST_HELD
        await asyncio.sleep(0.4)  # twenty intervals, and more than an upstream's silence may last
        assert waiting(outlets[0]) == held
        body = b"".join(await client.chunks())
    assert body.replace(COMMENT, b"") == sse({"choices": []}) + FILLER * PIECES + DONE
    assert (await gate.request_line())["ended"] == "complete"


async def given_up(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A client that reads its answer's head and no more is given up, and nothing is left."""
    books = await open_books(gate)
    async with connected(gate.url, receive_buffer=8192) as client:
        await client.send(chat_request(books.key))
        assert (await client.head()).status == 200
        async with asyncio.timeout(3):
            await upstream.wait_closed(1)
        line = await gate.request_line()
        await dropped(client)
    assert line["ended"] == "slow_client"
    await books.closed(requests=1, tokens=line["input_tokens"] + line["output_tokens"])


@pytest.mark.parametrize("comments", ["20ms", "0"])
@pytest.mark.parametrize("begun", [True, False], ids=["after an event", "after comments alone"])
async def test_who_never_reads(
    store_url: str, upstream: ScriptedUpstream, transport: str, begun: bool, comments: str
) -> None:
    """A client that reads nothing for its patience is given up, whatever it is that it does not
    read, and whether or not comments are on.
    """
    first = sse({"choices": []}) if begun else b""
    upstream.script([Head(), *([Send(first)] if begun else []), *[Send(FILLER)] * PIECES])
    async with open_gateway(
        store_url,
        upstream.url,
        patience=0.3,
        server={"stream_keep_alive": comments},
        providers={"openai": {"transport": transport}},
    ) as gate:
        await given_up(gate, upstream)


async def test_who_never_reads_for_a_longer_patience(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A stream has its own patience, however much less a connection has for what else it sends."""
    monkeypatch.setattr("proxy.web.connection.PATIENCE", 0.2)
    upstream.script([Head(), Send(sse({"choices": []})), *[Send(FILLER)] * PIECES])
    providers = {"openai": {"transport": transport}}
    async with open_gateway(store_url, upstream.url, patience=0.6, providers=providers) as gate:
        await given_up(gate, upstream)


async def test_who_reads_slowly(
    store_url: str, upstream: ScriptedUpstream, outlets: list[Outlet], transport: str
) -> None:
    """A client that takes a little in each patience gets all, however long it takes."""
    more = asyncio.Event()
    first, fillers = sse({"choices": []}), [Send(FILLER)] * 20
    upstream.script([Head(), Send(first), Pause(more), *fillers, Send(DONE), End()])
    providers = {"openai": {"transport": transport}}
    async with (
        open_gateway(store_url, upstream.url, patience=0.5, providers=providers) as gate,
        connected(gate.url, receive_buffer=8192) as client,
    ):
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        narrow(outlets[0])
        assert await client.chunk() == first
        more.set()
        came = b""
        for _ in range(10):  # three patiences
            await asyncio.sleep(0.15)
            came += await client.reader.read(16_000)
        async with asyncio.timeout(4):
            while not came.endswith(b"\r\n0\r\n\r\n"):
                part = await client.reader.read(4096)
                assert part, "it was given up"
                came += part
        assert len(came) > len(FILLER) * len(fillers)
        assert (await gate.request_line())["ended"] == "complete"


ENDS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "the last of its connection": ({"connection": "close"}, {}),
    "a silence after it": ({}, {"keep_alive": "300ms"}),
}


@pytest.mark.parametrize("how", ENDS)
async def test_who_never_reads_the_end(
    store_url: str,
    upstream: ScriptedUpstream,
    outlets: list[Outlet],
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    how: str,
) -> None:
    """A connection that is over is not held for a client that leaves the end of a stream unread."""
    monkeypatch.setattr("proxy.web.connection.PATIENCE", 0.3)
    headers, server = ENDS[how]
    more = asyncio.Event()
    tail = b":" + b"x" * 50_000 + b"\n\n"  # less than what makes it wait for its client
    first, last = sse({"choices": []}), tail + DONE
    upstream.script([Head(), Send(first), Pause(more), Send(last), End()])
    providers = {"openai": {"transport": transport}}
    async with (
        open_gateway(store_url, upstream.url, server=server, providers=providers) as gate,
        connected(gate.url, receive_buffer=8192) as client,
    ):
        await client.send(chat_request(await gate.key(), **headers))
        assert (await client.head()).status == 200
        narrow(outlets[0])
        more.set()
        assert (await gate.request_line())["ended"] == "complete"
        assert waiting(outlets[0])
        await dropped(client)


async def dropped(client: RawClient) -> None:
    """Wait until nobody is there any more, of which only a write can tell."""

    def told() -> bool:
        client.writer.write(b"x")
        return client.writer.transport.is_closing()

    await until(told)
