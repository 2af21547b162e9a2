"""The relay: what reaches the client, in which framing, and at whose pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway import HELLO, Gateway, events
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Raw,
    Recorded,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Split,
    Step,
    chat_stream,
    sse,
)
from tests.web.books import quick
from tests.web.raw import chat_request, connected

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


FAULTS: dict[str, list[Step]] = {
    "a close": [Close()],
    "a reset": [Reset()],
    "half a chunk": [Raw(b"50\r\n"), Close()],
    "garbage": [Raw(b"zz\r\n\r\n"), Sleep(60)],
    "a stall": [Sleep(60)],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
async def test_after_the_end_mark_nothing_is_missed(
    store_url: str, upstream: ScriptedUpstream, transport: str, fault: str
) -> None:
    """What fails once [DONE] has come breaks nothing off: the client's body ends well."""
    upstream.script([Head(), Send(sse(chunk_of("Hi")) + AFTER), *FAULTS[fault]])
    async with quick(store_url, upstream, transport) as gate:
        async with gate.post(await gate.key()) as answer:
            assert await answer.read() == sse(chunk_of("Hi")) + AFTER
        assert (await gate.request_line())["ended"] == "complete"


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


async def test_a_withheld_event_does_not_end_a_stream_early(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A stream that begins with the withheld event goes on after it."""
    upstream.script([Head(), Send(WITHHELD), Send(sse(chunk_of("late")) + AFTER), End()])
    async with gateway.post(await gateway.key(), {**HELLO, "max_tokens": 5}) as answer:
        assert await answer.read() == sse(chunk_of("late")) + AFTER
