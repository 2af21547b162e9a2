"""Clients that take their time: over a head, over a body, over nothing, over their answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle, islice

import pytest

from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_json, json_reply
from tests.web.raw import RawClient, chat_request, connected
from tests.web.refusals import refusal

SLOW = (408, "invalid_request_error", None)
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
HEAD = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-a: "


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway that is in no hurry to close what is idle."""
    upstream.script(chat_json("Hi"))
    async with open_gateway(store_url, upstream.url, server={"keep_alive": "1h"}) as opened:
        yield opened


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads have less time than a test."""
    monkeypatch.setattr("proxy.web.connection.HEAD_TIME", 0.6)


async def dribble(
    client: RawClient, data: bytes, *, every: float = 0.02, seconds: float = 60.0
) -> None:
    """A byte at a time, and round again, for as long as the gateway takes them, or so long."""
    for byte in islice(cycle(data), int(seconds / every)):
        client.writer.write(bytes([byte]))
        await asyncio.sleep(every)


async def probed(gate: Gateway) -> None:
    """One request on a connection of its own is served."""
    async with connected(gate.url) as client:
        await client.send(PROBE)
        assert (await client.answer()).status == 200


@pytest.mark.usefixtures("brisk")
async def test_a_head_that_dribbles(gate: Gateway) -> None:
    """It is late, is told so in the envelope, and shows in the log."""
    async with connected(gate.url) as client:
        await client.send(HEAD)
        await dribble(client, b"a", seconds=0.3)  # half the time of a head
        got = await client.answer()
    refusal(got.status, got.headers, got.body, SLOW)
    (line,) = gate.log_lines()
    assert (line["status"], line["reason"]) == (408, "slow_client")


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("begun", [b"G", HEAD, HEAD + b"a\r\n", b"\r\n\r\nG", b"\x16\x03"])
async def test_a_head_that_stops(gate: Gateway, begun: bytes) -> None:
    """Wherever it stops, its time is up, and the connection ends."""
    async with connected(gate.url) as client:
        await client.send(begun)
        assert (await client.answer()).status in (400, 408)
        assert await client.rest() == b""


@pytest.mark.usefixtures("brisk")
async def test_the_second_head_of_a_connection(gate: Gateway) -> None:
    """Each head has its own time: that of one behind an answer begins with its first byte."""
    async with connected(gate.url) as client:
        for _ in range(3):
            await client.send(PROBE[:5])
            await asyncio.sleep(0.25)  # three times are more than the time of one
            await client.send(PROBE[5:])
            assert (await client.answer()).status == 200
        await client.send(PROBE[:5])
        assert (await client.answer()).status == 408


@pytest.mark.usefixtures("brisk")
async def test_silence_is_no_head(gate: Gateway) -> None:
    """A connection that says nothing, or empty lines, is not late; nor one between two requests."""
    async with connected(gate.url) as first, connected(gate.url) as second:
        await first.send(b"\r\n")
        for _ in range(2):
            await asyncio.sleep(0.7)  # more than the time of a head
            for client in (first, second):
                await client.send(PROBE)
                assert (await client.answer()).status == 200


@pytest.mark.usefixtures("brisk")
async def test_a_body_is_no_head(gate: Gateway) -> None:
    """A body may take longer than a head, and an answer too."""
    raw = chat_request(await gate.key(), {**HELLO, "stream": False})
    async with connected(gate.url) as client:
        await client.send(raw[:-5])
        await asyncio.sleep(0.7)  # more than the time of a head
        await client.send(raw[-5:])
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("said", [b"", PROBE, b"\r\n"])
async def test_what_is_idle_is_closed(
    store_url: str, upstream: ScriptedUpstream, said: bytes
) -> None:
    """A connection that says no more for `keep_alive` is closed, without a word."""
    server = {"keep_alive": "200ms"}
    async with (
        open_gateway(store_url, upstream.url, server=server) as gate,
        connected(gate.url) as client,
    ):
        await client.send(said)
        if said == PROBE:
            assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.usefixtures("brisk")
async def test_slow_heads_hold_up_nobody(gate: Gateway) -> None:
    """Fifty that dribble win no time by it, and meanwhile others are served."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(gate.url)) for _ in range(50)]
        for client in clients:
            await client.send(HEAD)
        dribbles = [asyncio.create_task(dribble(client, b"a")) for client in clients]
        ends = [asyncio.create_task(client.reader.readuntil(b"\r\n")) for client in clients]
        probes = 0
        while not all(end.done() for end in ends):
            await probed(gate)
            probes += 1
        for task in dribbles:
            task.cancel()
        assert {end.result() for end in ends} == {b"HTTP/1.0 408 Request Timeout\r\n"}
    assert probes > 2


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies may keep us waiting for less than a test."""
    monkeypatch.setattr("proxy.web.read.BODY_TIME", 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("sized", [True, False])
async def test_a_body_that_stalls(gate: Gateway, upstream: ScriptedUpstream, sized: bool) -> None:
    """A body that stops coming is a 408 in the envelope, and the connection ends."""
    key = await gate.key()
    more = {"content_length": "100"} if sized else CHUNKED
    async with connected(gate.url) as client:
        await client.send(chat_request(key, b"", **more), b'{"a":' if sized else b'5\r\n{"a":\r\n')
        got = await client.answer()
    refusal(got.status, got.headers, got.body, SLOW)
    assert got.headers["connection"] == "close"
    assert (await gate.request_line())["reason"] == "slow_client"
    assert not upstream.requests


CHUNKED = {"content_length": "", "transfer_encoding": "chunked"}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("every", [0.01, 0.1, 0.25])
async def test_a_body_that_dribbles(gate: Gateway, every: float) -> None:
    """A byte in time for each stall is no body in time."""
    head = chat_request(await gate.key(), b"", content_length="100000")
    async with connected(gate.url) as client, asyncio.TaskGroup() as group:
        await client.send(head)
        dribbling = group.create_task(dribble(client, b" ", every=every))
        assert (await client.answer()).status == 408
        dribbling.cancel()


async def test_a_body_that_is_slow_and_steady(
    gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes wins time: a body may take longer than a stall where it keeps up the pace."""
    monkeypatch.setattr("proxy.web.read.BODY_TIME", 1.0)
    monkeypatch.setattr("proxy.web.read.BODY_RATE", 1000)
    text = json.dumps({**HELLO, "stream": False}).encode().ljust(1500)
    raw = chat_request(await gate.key(), text)
    async with connected(gate.url) as client:
        await client.send(raw[: -len(text)])
        for start in range(0, len(text), 300):
            await asyncio.sleep(0.25)  # 300 bytes are worth 0.3
            await client.send(text[start : start + 300])
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_takes_no_answer(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """A whole answer of which nothing is read is given up; one that is read slowly is not."""
    monkeypatch.setattr("proxy.web.connection.PATIENCE", 1.0)
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 16_000_000}}
    upstream.script(json_reply(200, {"choices": [choice]}))
    async with (
        open_gateway(store_url, upstream.url) as gate,
        connected(gate.url, receive_buffer=4096) as client,
    ):
        await client.send(chat_request(await gate.key(), {**HELLO, "stream": False}))
        left = int((await client.head()).headers["content-length"])
        with contextlib.ExitStack() as stack:
            if not reads:
                stack.enter_context(pytest.raises((ConnectionError, asyncio.IncompleteReadError)))
            for _ in range(5):
                await asyncio.sleep(0.4)  # five times are more than a patience
                if reads:
                    await client.reader.readexactly(2_500_000)
                    left -= 2_500_000
            await client.reader.readexactly(left)
        await gate.idle()
