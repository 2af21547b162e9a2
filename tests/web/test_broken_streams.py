"""Streams that fail after the first byte: one error event, and an end that nobody mistakes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest

from proxy.domain.errors import Unauthorized
from proxy.domain.meter import StreamMeter
from proxy.domain.sse import LARGEST_EVENT
from tests.gateway import HELLO, Gateway, events, open_gateway, until
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
    Step,
    chat_json,
    chat_stream,
    sse,
)
from tests.web.books import open_books, quick
from tests.web.raw import chat_request, connected, unchunked
from tests.web.refusals import refused

HANG = Sleep(60)


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    async with quick(store_url, upstream) as opened:
        yield opened


WORD = {"choices": [{"index": 0, "delta": {"content": "Hello there"}, "finish_reason": None}]}
TWO = sse(WORD, WORD)
GIANT = b"data: " + b"x" * 2**18

AFTER_THE_FIRST_BYTE: dict[str, tuple[Iterable[Step], str]] = {
    "truncated chunks": ([Close()], "upstream_failed"),
    "a clean end without [DONE]": ([End()], "upstream_failed"),
    "half an event": ([Send(b'data: {"choices": [{"ind'), End()], "upstream_failed"),
    "half an event, then a reset": ([Send(b'data: {"choi'), Reset()], "upstream_failed"),
    "a reset": ([Reset()], "upstream_failed"),
    "a stall": ([HANG], "upstream_timeout"),
    "garbage in the framing": ([Raw(b"zz\r\nrubbish")], "upstream_failed"),
    "an event too large": (
        [*[Send(GIANT)] * (LARGEST_EVENT // len(GIANT) + 1), HANG],
        "upstream_failed",
    ),
}


@pytest.mark.parametrize("name", AFTER_THE_FIRST_BYTE)
async def test_a_failure_after_the_first_byte(
    gate: Gateway, upstream: ScriptedUpstream, name: str
) -> None:
    """After the 200 a failure is one error event, no [DONE], and no last chunk."""
    steps, ended = AFTER_THE_FIRST_BYTE[name]
    upstream.script([Head(), Send(TWO), *steps])
    books = await open_books(gate)
    async with connected(gate.url) as client:
        await client.send(chat_request(books.key))
        assert (await client.head()).status == 200
        raw = await client.rest()
    body = unchunked(raw)
    assert body.startswith(TWO)
    found = events(body.removeprefix(TWO))
    assert [set(event) for event in found] == [{"error"}], body[-500:]
    assert found[0]["error"].keys() == {"message", "type", "param", "code"}
    assert found[0]["error"]["type"] == "server_error"
    assert body.endswith(b"}}\n\n")
    line = await gate.request_line()
    assert (line["status"], line["ended"], line["source"]) == (200, ended, "estimated")
    # "Hello there" is two tokens of either vocabulary.
    assert line["output_tokens"] == 4
    await books.closed(requests=1, tokens=line["input_tokens"] + 4)


@pytest.mark.parametrize("last", [[End()], [Send(sse("[DONE]")), End()], [Reset()]])
async def test_an_error_event_of_the_upstreams_is_the_only_one(
    gate: Gateway, upstream: ScriptedUpstream, last: list[Step]
) -> None:
    """An upstream's own error event passes and ends the stream: neither an end mark nor an error of
    ours comes after it, and the end is not clean.
    """
    theirs = sse({"error": {"message": "overloaded", "type": "x", "param": None, "code": None}})
    upstream.script([Head(), Send(TWO + theirs), *last])
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        body = unchunked(await client.rest())
    assert body == TWO + theirs
    assert (await gate.request_line())["ended"] == "upstream_failed"


OVERLOADED = sse({"error": {"message": "overloaded", "type": "server_error"}})
NO_ANSWER: dict[str, list[Step]] = {
    "an error": [Send(OVERLOADED), End()],
    "an error and the end mark": [Send(OVERLOADED + sse("[DONE]")), End()],
    "an error after a comment": [Send(b": ping\n\n"), Send(OVERLOADED), Reset()],
    "a comment and a reset": [Send(b": ping\n\n"), Reset()],
    "a comment and an end": [Send(b": ping\n\n"), End()],
    "half an event": [Send(b'data: {"choices": [{"ind'), End()],
    "an event without an end": [Send(TWO[:-2].partition(b"\n\n")[0]), End()],
}


@pytest.mark.parametrize("name", NO_ANSWER)
@pytest.mark.parametrize("model", ["gpt-4o", "o3"])
async def test_a_failure_before_any_text_is_refunded(
    store_url: str, upstream: ScriptedUpstream, model: str, name: str
) -> None:
    """A stream that holds an error, or no whole event, was no answer: its tokens are refunded."""
    upstream.script([Head(), *NO_ANSWER[name]])
    models = {"o3": {"targets": [{"provider": "openai"}], "price": {"input": 2, "output": 8}}}
    async with open_gateway(store_url, upstream.url, models=models) as gate:
        books = await open_books(gate)
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async with books.post({**HELLO, "model": model}) as answer:
                await answer.read()
        assert (await gate.request_line())["ended"] == "upstream_failed"
        await books.closed(requests=1, tokens=0)


ODD_USAGES = {
    "none of the prompt": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "a total beyond belief": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 2**31 - 1,
    },
}


@pytest.mark.parametrize("name", ODD_USAGES)
async def test_a_usage_that_cannot_be_real(
    gate: Gateway, upstream: ScriptedUpstream, name: str
) -> None:
    """A usage that cannot be is not charged: our own count is, and is told as estimated."""
    upstream.script(
        [Head(), Send(TWO + sse({"choices": [], "usage": ODD_USAGES[name]}, "[DONE]")), End()]
    )
    books = await open_books(gate)
    async with books.post() as answer:
        assert events(await answer.read()) == [WORD, WORD, "[DONE]"]
    line = await gate.request_line()
    assert (line["source"], line["output_tokens"]) == ("estimated", 4)
    await books.closed(requests=1, tokens=line["input_tokens"] + 4)


@pytest.mark.parametrize(("effort", "output"), [("high", HELLO["max_tokens"]), ("none", 4)])
async def test_a_request_that_thinks_hides_its_output(
    gate: Gateway, upstream: ScriptedUpstream, effort: str, output: int
) -> None:
    """A request that switches thinking on, and shows no usage, costs the output it reserved."""
    upstream.script([Head(), Send(TWO), Reset()])
    books = await open_books(gate)
    async with books.post({**HELLO, "reasoning_effort": effort}) as answer:
        with contextlib.suppress(aiohttp.ClientPayloadError):
            await answer.read()
    assert (await gate.request_line())["output_tokens"] == output


async def test_more_than_the_cap_is_recorded(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An upstream that goes beyond the cap, and tells no usage, is charged as it delivered."""
    upstream.script([Head(), Send(sse(*[WORD] * 40, "[DONE]")), End()])
    books = await open_books(gate)
    async with books.post() as answer:
        await answer.read()
    assert (await gate.request_line())["output_tokens"] == 80 > HELLO["max_tokens"]


async def test_an_unfinished_error_event_is_replaced_by_ours(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """An error event that the upstream did not finish is no use: ours stands in its place."""
    half = sse({"error": {"message": "theirs"}}).removesuffix(b"\n\n")
    upstream.script([Head(), Send(TWO + half), End()])
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        body = unchunked(await client.rest())
    (error,) = events(body.removeprefix(TWO))
    assert error["error"]["type"] == "server_error"


def revoke(gate: Gateway) -> None:
    """What a renewal does of a key that may no longer be used."""
    (lease,) = gate.door.ledger._live.values()
    lease.lose(Unauthorized("This API key has been revoked."))


async def test_a_key_that_is_revoked_in_mid_stream(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """What the ledger ends is told in the stream, and charged for what came."""
    upstream.script([Head(), Send(TWO), HANG])
    books = await open_books(gate)
    async with connected(gate.url) as client:
        await client.send(chat_request(books.key))
        assert (await client.head()).status == 200
        assert await client.chunk()
        revoke(gate)
        (error,) = events(unchunked(await client.rest()))
    assert error["error"]["code"] == "invalid_api_key"
    line = await gate.request_line()
    assert line["ended"] == "unauthorized"
    await books.closed(requests=1, tokens=line["input_tokens"] + 4)


@pytest.mark.parametrize("heads", [0, 1], ids=["before the head", "after it"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_key_that_is_revoked_before_the_first_byte(
    gateway: Gateway, upstream: ScriptedUpstream, stream: bool, heads: int
) -> None:
    """What the ledger ends early is a plain error, and the input is charged: it was sent.
    Where the whole answer was asked for, it may have been made: the output is charged too."""
    kind = "text/event-stream" if stream else "application/json"
    upstream.script([*[Head(200, (("Content-Type", kind),))] * heads, HANG])
    books = await open_books(gateway)
    asking = asyncio.ensure_future(
        refused(
            books.post({**HELLO, "stream": stream}),
            (401, "invalid_request_error", "invalid_api_key"),
        )
    )
    await upstream.wait_requests(1)
    await until(lambda: [bool(call.status) for call in gateway.door.calls] == [bool(heads)])
    revoke(gateway)
    await asking
    line = await gateway.request_line()
    output = 0 if stream else HELLO["max_tokens"]
    assert (line["ended"], line["output_tokens"]) == ("unauthorized", output)
    assert line["input_tokens"] > 0
    await books.closed(requests=1, tokens=line["input_tokens"] + output)


async def test_a_fault_of_our_own_in_mid_stream(
    gate: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours ends a stream as a failure of the upstream's does, without a second head."""
    feed = StreamMeter.feed

    def broken(meter: StreamMeter, data: bytes) -> bytes:
        if data != first:
            raise KeyError("the answer")
        return feed(meter, data)

    more, first = asyncio.Event(), sse({"choices": []})
    upstream.script([Head(), Send(first), Pause(more), Send(TWO), HANG])
    books = await open_books(gate)
    monkeypatch.setattr(StreamMeter, "feed", broken)
    async with connected(gate.url) as client:
        await client.send(chat_request(books.key))
        assert (await client.head()).status == 200
        assert await client.chunk() == first
        more.set()
        (error,) = events(unchunked(await client.rest()))
    assert error["error"]["type"] == "server_error"
    (line,) = [x for x in gate.log_lines() if x["event"] == "unexpected"]
    assert line["error"] == "KeyError"
    assert "the answer" not in gate.log.getvalue()
    told = await gate.request_line()
    assert (told["status"], told["ended"]) == (200, "internal")
    await books.closed(requests=1, tokens=told["input_tokens"])


async def test_a_first_event_that_is_too_large(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """What came is too much to be held, and no failure of the upstream's: it is not refunded."""
    upstream.script([Head(), *[Send(GIANT)] * (LARGEST_EVENT // len(GIANT) + 1), HANG])
    books = await open_books(gate)
    with contextlib.suppress(aiohttp.ClientPayloadError):
        async with books.post() as answer:
            await answer.read()
    line = await gate.request_line()
    assert (line["ended"], line["input_tokens"] > 0) == ("upstream_failed", True)
    await books.closed(requests=1, tokens=line["input_tokens"])


async def test_the_connection_of_a_good_answer_is_used_again(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """Requests one after the other share a connection; one that failed is not used again."""
    upstream.script(chat_stream(["Hi"]))
    upstream.script(chat_json("Hi"))
    upstream.script([Head(), Send(TWO), HANG])
    upstream.script(chat_json("Hi"))
    key = await gate.key()
    for stream in (True, False, True, False):
        async with gate.post(key, {**HELLO, "stream": stream}) as answer:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                await answer.read()
        await gate.idle()
    assert [sent.connection_id for sent in upstream.requests] == [1, 1, 1, 2]
