"""The relay: what reaches the client, in which framing, and at whose pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway import HELLO, Gateway, events, open_gateway, until
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Recorded,
    ScriptedUpstream,
    Send,
    Split,
    Step,
    chat_stream,
    sse,
)
from tests.web.raw import RawClient, chat_request, connected

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def chunk_of(text: str, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


#: Every shape that a provider's events have been seen in, and some that none should have.
BEFORE = b"".join(
    (
        sse(chunk_of("", prompt_filter_results=[])),
        b": OPENROUTER PROCESSING\n\n",
        b"event: message\r\nid: 1\r\ndata: "
        + json.dumps(chunk_of("räm 漢 🎉")).encode()
        + b"\r\n\r\n",
        b'data: {"choices":\ndata: []}\n\n',
        b"data:" + json.dumps(chunk_of("no space")).encode() + b"\n\n",
        b"retry: 10\n\n\n",
        b"data: no json\n\n",
        sse({**chunk_of('"usage": {}'), "usage": None}),
    )
)
WITHHELD = sse({"id": "c", "choices": [], "usage": USAGE})
AFTER = sse("[DONE]")
CUTS = st.lists(st.integers(1, 40), max_size=30)


async def test_every_event_but_the_withheld_one_passes_byte_for_byte(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """However the stream is cut into reads, the client gets all but the event it did not want."""
    key = await gateway.key()
    splits: list[list[int]] = []

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(CUTS)
    def collect(cuts: list[int]) -> None:
        splits.append(cuts)

    collect()
    splits += [[1] * 120, [len(BEFORE)], [len(BEFORE) + len(WITHHELD)], [len(BEFORE) - 1]]
    for sizes in splits:
        upstream.script([Head(), Split(BEFORE + WITHHELD + AFTER, sizes), End()])
        async with gateway.post(key) as answer:
            assert await answer.read() == BEFORE + AFTER, sizes


async def test_chunks_and_keep_alive(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """A stream is framed in chunks to its last, and its connection serves the next request."""
    upstream.script(chat_stream(["Hi"]))
    key = await gateway.key()
    async with connected(gateway.url) as client:
        bodies = []
        for _ in range(2):
            await client.send(chat_request(key))
            head = await client.head()
            assert head.headers["transfer-encoding"] == "chunked"
            assert "content-length" not in head.headers
            bodies.append(b"".join(await client.chunks()))
    assert bodies[0] == bodies[1]
    assert events(bodies[0])[-1] == "[DONE]"


async def test_the_answer_is_not_held_back(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Each event reaches the client before the next is sent."""
    first, second = sse(chunk_of("one")), sse(chunk_of("two"))
    arrived = asyncio.Event()

    def script(request: Recorded) -> Iterator[Step]:
        yield Head()
        yield Send(first)
        yield Pause(arrived)
        yield Send(second + AFTER)
        yield End()

    upstream.script(script)
    async with gateway.post(await gateway.key()) as answer:
        assert await answer.content.readany() == first
        arrived.set()
        assert await answer.read() == second + AFTER


async def test_an_end_mark_without_its_blank_line(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A stream that ends right after [DONE] is complete."""
    upstream.script([Head(), Send(sse(chunk_of("Hi")) + b"data: [DONE]"), End()])
    async with gateway.post(await gateway.key()) as answer:
        assert (await answer.read()).endswith(b"data: [DONE]")
    assert (await gateway.request_line())["ended"] == "complete"


async def test_after_the_end_mark_nothing_is_missed(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A connection that drops once [DONE] has come has broken nothing off."""
    upstream.script([Head(), Send(sse(chunk_of("Hi")) + AFTER), Close()])
    async with gateway.post(await gateway.key()) as answer:
        assert (await answer.read()).endswith(AFTER)
    assert (await gateway.request_line())["ended"] == "complete"


async def test_http_1_0_gets_a_plain_body(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """An HTTP/1.0 client gets no chunks, and the end is the connection's."""
    upstream.script(chat_stream(["Hi"]))
    async with connected(gateway.url) as client:
        await client.send(chat_request(await gateway.key(), version="1.0"))
        head = await client.head()
        body = await client.rest()
    assert (head.version, head.status) == ("HTTP/1.0", 200)
    assert "transfer-encoding" not in head.headers
    assert events(body)[-1] == "[DONE]"


async def test_http_1_0_sees_a_failure_as_a_reset(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Without chunks only a reset says that a body is not complete."""
    upstream.script([Head(), Send(sse(chunk_of("Hi"))), Close()])
    async with connected(gateway.url) as client:
        await client.send(chat_request(await gateway.key(), version="1.0"))
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()


FILLER = b":" + b"x" * 65_000 + b"\n\n"
PIECES = 450


class Flood:
    """A script of 29 MB, and how much of it has been sent."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, request: Recorded) -> Iterator[Step]:
        yield Head()
        for _ in range(PIECES):
            yield Send(FILLER)
            self.sent += 1
        yield Send(AFTER)
        yield End()

    async def stalled(self) -> int:
        """What had been sent when for 50 ms nothing more was."""
        before = -1
        async with asyncio.timeout(4):
            while before != self.sent or not before:
                before = self.sent
                await asyncio.sleep(0.05)
        return self.sent


@pytest.fixture
async def flood(upstream: ScriptedUpstream) -> Flood:
    script = Flood()
    upstream.script(script)
    return script


async def start(client: RawClient, key: str) -> None:
    await client.send(chat_request(key))
    assert (await client.head()).status == 200


async def test_a_client_that_does_not_read_holds_the_upstream_back(
    gateway: Gateway, flood: Flood
) -> None:
    """The upstream stalls while the client reads nothing, and all arrives once it does."""
    async with connected(gateway.url, receive_buffer=8192) as client:
        await start(client, await gateway.key())
        held = await flood.stalled()
        assert held < PIECES * 3 / 4  # the sockets' own buffers, and little beside
        assert gateway.door.ledger.live == 1
        size = sum(map(len, await client.chunks()))
    assert size == PIECES * len(FILLER) + len(AFTER)
    line = await gateway.request_line()
    assert line["ended"] == "complete"


@pytest.fixture
async def impatient(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway that waits a quarter of a second for a client to read."""
    async with open_gateway(store_url, upstream.url, patience=0.25) as opened:
        yield opened


def dropped(client: RawClient) -> bool:
    """Whether the server has done away with the connection; only a write can tell."""
    client.writer.write(b"x")
    return client.writer.transport.is_closing()


async def test_a_client_that_never_reads_is_given_up(
    impatient: Gateway, upstream: ScriptedUpstream, flood: Flood
) -> None:
    """After its patience the gateway closes the upstream, settles, and drops the client."""
    key = await impatient.key("1M tokens/day")
    async with connected(impatient.url, receive_buffer=8192) as client:
        await start(client, key)
        async with asyncio.timeout(2):
            await upstream.wait_closed(1)
        line = await impatient.request_line()
        await until(lambda: dropped(client))
    assert line["ended"] == "slow_client"
    assert flood.sent < PIECES
    assert (await impatient.used(key))["tokens"][1] == 0


async def test_a_withheld_event_does_not_end_a_stream_early(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A stream that begins with the withheld event goes on after it."""
    upstream.script([Head(), Send(WITHHELD), Send(sse(chunk_of("late")) + AFTER), End()])
    async with gateway.post(await gateway.key(), {**HELLO, "max_tokens": 5}) as answer:
        assert await answer.read() == sse(chunk_of("late")) + AFTER
