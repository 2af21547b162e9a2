"""Comments in silent streams: when one comes, when none may, and what fails after one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import openai
import pytest

from proxy.web.outlet import Outlet
from proxy.web.pulse import COMMENT, Pulse
from tests.gateway import HELLO, Gateway, events, open_gateway, until
from tests.providers.anthropic import recorded
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_json,
    sse,
)
from tests.web.books import open_books
from tests.web.raw import chat_request, connected, unchunked
from tests.web.refusals import refused
from tests.web.two import USAGE, open_two

TRANSPORTS = ["direct", "aiohttp"]
WORD = {"choices": [{"index": 0, "delta": {"content": "Hello there"}, "finish_reason": None}]}
TEXT = sse(WORD)
DONE = sse("[DONE]")
HANG = Sleep(60)
#: Seconds: far from what a read takes, and several times shorter than any deadline here.
SHORT = {"stream_keep_alive": "50ms"}


def said(body: bytes) -> bytes:
    """What of a body is not ours."""
    return body.replace(COMMENT, b"")


def opened(
    store_url: str, upstream: ScriptedUpstream, transport: str = "direct", **more: Any
) -> AbstractAsyncContextManager[Gateway]:
    provider = {"transport": transport, **more}
    return open_gateway(store_url, upstream.url, server=SHORT, providers={"openai": provider})


@pytest.fixture(params=TRANSPORTS)
async def gate(
    store_url: str, upstream: ScriptedUpstream, request: pytest.FixtureRequest
) -> AsyncIterator[Gateway]:
    async with opened(store_url, upstream, request.param) as made:
        yield made


async def test_a_head_and_then_silence(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Once the upstream has answered its head, the 200 goes out with the first comment, and others
    follow until the first event, which passes as it came.
    """
    more = asyncio.Event()
    upstream.script([Head(), Pause(more), Send(TEXT + DONE), End()])
    async with gate.post(await gate.key()) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["x-visiongate-source"] == "upstream"
        assert await answer.content.readexactly(3 * len(COMMENT)) == 3 * COMMENT
        more.set()
        assert said(await answer.read()) == TEXT + DONE
    line = await gate.request_line()
    assert (line["status"], line["ended"], line["output_tokens"]) == (200, "complete", 2)


@pytest.mark.parametrize("half", [b"", b"d", TEXT[:9], TEXT[:-1], b": comm"])
async def test_a_silence_in_mid_stream(
    gate: Gateway, upstream: ScriptedUpstream, half: bytes
) -> None:
    """Comments come between events alone, wherever the upstream's bytes have stopped."""
    more = asyncio.Event()
    rest = TEXT[len(half) :] if TEXT.startswith(half) else b"ent\n\n" + TEXT
    upstream.script([Head(), Send(TEXT + half), Pause(more), Send(rest + DONE), End()])
    async with gate.post(await gate.key()) as answer:
        begun = TEXT + 2 * COMMENT
        assert await answer.content.readexactly(len(begun)) == begun
        more.set()
        assert TEXT + said(await answer.read()) == TEXT + half + rest + DONE
    assert (await gate.request_line())["output_tokens"] == 4


async def test_a_stream_that_flows_has_none(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """While events come within the interval nothing is said between them."""
    upstream.script([Head(), *[Send(TEXT), Sleep(0.01)] * 20, Send(DONE), End()])
    async with gate.post(await gate.key()) as answer:
        body = await answer.read()
    assert said(body) == TEXT * 20 + DONE
    assert body.count(COMMENT) <= 1  # a busy machine may sleep longer once


async def test_nothing_is_said_before_a_head(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Until the upstream has answered, its failure is an answer of its own."""
    upstream.script([Sleep(0.3), Close()])
    await refused(gate.post(await gate.key()), (502, "server_error", None))


async def test_a_whole_answer_has_none(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An answer that is no stream comes as the upstream wrote it, however long that took."""
    head, body, end = chat_json("Hello")
    assert isinstance(body, Send)
    upstream.script([head, Sleep(0.2), Send(body.data[:20]), Sleep(0.2), Send(body.data[20:]), end])
    async with gate.post(await gate.key(), {**HELLO, "stream": False}) as answer:
        assert await answer.read() == body.data


FAILURES: dict[str, tuple[list[Step], str]] = {
    "a close": ([Close()], "upstream_failed"),
    "an end": ([End()], "upstream_failed"),
    "an error": (
        [Send(sse({"error": {"message": "busy", "code": 429}})), HANG],
        "upstream_refused",
    ),
    "a stall": ([HANG], "upstream_timeout"),
    "comments alone": ([Send(b": ping\n\n"), Close()], "upstream_failed"),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_failure_after_a_comment(store_url: str, transport: str, name: str) -> None:
    """Once a comment has gone out no other target is asked: a failure is an error event, with an
    unclean end, refunded as before, and counts against the target.
    """
    steps, ended = FAILURES[name]
    more = asyncio.Event()
    timeouts = {"first_byte": "1s", "idle": "300ms"}
    providers = {"one": {"timeouts": timeouts}}
    async with open_two(store_url, transport=transport, server=SHORT, providers=providers) as two:
        two.one.script([Head(), Pause(more), *steps])
        async with connected(two.gate.url) as client:
            await client.send(chat_request(two.books.key))
            assert (await client.head()).status == 200
            assert await client.chunk() == COMMENT
            more.set()
            body = unchunked(await client.rest())
        (error,) = events(said(body).removeprefix(b": ping\n\n"))
        assert error["error"].keys() >= {"message", "type", "param", "code"}
        assert two.asked == (1, 0)
        line = await two.gate.request_line()
        assert (line["status"], line["ended"]) == (200, ended)
        assert two.standing("one").breaker._streak == (ended != "upstream_refused")
        assert line["output_tokens"] == 0
        assert (line["input_tokens"] > 0) == (ended == "upstream_timeout")
        await two.books.closed(requests=1, tokens=line["input_tokens"])


async def test_before_the_first_comment_another_target_is_asked(store_url: str) -> None:
    """A head alone binds nobody: a target that fails in its silence is followed by the next."""
    async with open_two(store_url, server={"stream_keep_alive": "5s"}) as two:
        two.one.script([Head(), Send(b": OPENROUTER PROCESSING\n\n"), Close()])
        two.two.script([Head(), Send(TEXT + DONE), End()])
        async with two.books.post() as answer:
            assert await answer.read() == TEXT + DONE
        assert two.asked == (1, 1)


async def test_the_upstreams_comments_wait_for_its_event(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Comments before the first event go out with it, in one piece."""
    comments = b": OPENROUTER PROCESSING\n\n" * 3
    upstream.script([Head(), Send(comments[:40]), Send(comments[40:]), Send(TEXT + DONE), End()])
    async with connected(gateway.url) as client:
        await client.send(chat_request(await gateway.key()))
        assert (await client.head()).status == 200
        assert (await client.chunk()) == comments + TEXT + DONE


async def test_comments_without_end(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """An upstream that sends comments alone is held in memory no further than 64 KiB."""
    comment = b":" + b"x" * 10_000 + b"\n\n"
    more = asyncio.Event()
    upstream.script([Head(), *[Send(comment)] * 8, Pause(more), Send(TEXT + DONE), End()])
    async with gateway.post(await gateway.key()) as answer:
        assert await answer.content.readexactly(8 * len(comment)) == 8 * comment
        more.set()
        assert await answer.read() == TEXT + DONE


async def test_what_a_client_does_not_get_is_silence(
    store_url: str, upstream: ScriptedUpstream
) -> None:
    """Pings and thoughts of Anthropic's, of which a client gets nothing, do not keep it waiting in
    silence.
    """
    begun, _, rest = recorded("text.sse").partition(b"event: content_block_start")
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    upstream.script(
        [
            Head(),
            Send(begun),
            *[Send(ping), Sleep(0.02)] * 10,
            Send(b"event: content_block_start" + rest),
            End(),
        ]
    )
    async with (
        opened(store_url, upstream, kind="anthropic") as gate,
        gate.post(await gate.key()) as answer,
    ):
        body = await answer.read()
    role, _, _ = body.partition(b"\n\n")
    assert body.startswith(role + b"\n\n" + COMMENT)
    assert events(body)[-1] == "[DONE]"


async def test_http_1_0(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A client that knows no chunks gets comments as they are."""
    upstream.script([Head(), Sleep(0.15), Send(TEXT + DONE), End()])
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key(), version="1.0"))
        assert (await client.head()).status == 200
        body = await client.rest()
    assert body.startswith(COMMENT)
    assert said(body) == TEXT + DONE


async def test_a_client_that_leaves_in_a_silence(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The upstream is closed as soon as its client has gone, comments or not."""
    upstream.script([Head(), HANG])
    books = await open_books(gate)
    async with connected(gate.url) as client:
        await client.send(chat_request(books.key))
        assert (await client.head()).status == 200
    async with asyncio.timeout(1):
        await upstream.wait_closed(1)
    line = await gate.request_line()
    assert line["ended"] == "client_gone"
    await books.closed(requests=1, tokens=line["input_tokens"])
    assert not gate.door.pulse._streams


async def test_a_worker_that_stops(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A stream that has comments alone is told of a shut-down in an event."""
    upstream.script([Head(), HANG])
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        gate.door.end_calls()
        (error,) = events(said(unchunked(await client.rest())))
    assert "shutting down" in error["error"]["message"]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_the_sdk_passes_over_comments(
    gate: Gateway, upstream: ScriptedUpstream, asynchronous: bool
) -> None:
    """The official SDK gets every word, and no event for a comment."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", **WORD}
    sent = sse(chunk)
    upstream.script([Head(), Sleep(0.15), Send(sent), Sleep(0.15), Send(sent + DONE), End()])
    key = await gate.key()
    ask: Any = {**HELLO, "stream": True}

    def listen() -> list[Any]:
        with openai.OpenAI(base_url=f"{gate.url}/v1", api_key=key) as client:
            return list(client.chat.completions.create(**ask))

    async def alisten() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key) as client:
            return [chunk async for chunk in await client.chat.completions.create(**ask)]

    got = await (alisten() if asynchronous else asyncio.to_thread(listen))
    assert [chunk.choices[0].delta.content for chunk in got] == ["Hello there"] * 2


async def test_none_where_they_are_off(store_url: str, upstream: ScriptedUpstream) -> None:
    """With 0 nothing is said, no timer is set, and nothing goes out before the first event."""
    more = asyncio.Event()
    upstream.script(
        [Head(), Sleep(0.2), Send(b": busy\n\n"), Pause(more), Send(TEXT + DONE), End()]
    )
    off = {"stream_keep_alive": 0}
    async with open_gateway(store_url, upstream.url, server=off) as gate:
        asked = asyncio.ensure_future(gate.post(await gate.key()).__aenter__())
        await upstream.wait_requests(1)
        await asyncio.sleep(0.4)
        assert not asked.done()
        assert gate.door.pulse._timer is None
        more.set()
        answer: aiohttp.ClientResponse = await asked
        assert await answer.read() == b": busy\n\n" + TEXT + DONE


async def test_a_client_that_has_not_taken_the_last_one(
    gate: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While anything waits for a client nothing is said to it."""
    more = asyncio.Event()
    upstream.script([Head(), Send(TEXT), Pause(more), Send(DONE), End()])
    monkeypatch.setattr(Outlet, "idle", False)
    async with gate.post(await gate.key()) as answer:
        assert await answer.content.readexactly(len(TEXT)) == TEXT
        await asyncio.sleep(0.2)  # four intervals
        monkeypatch.setattr(Outlet, "idle", True)
        assert await answer.content.readexactly(len(COMMENT)) == COMMENT
        monkeypatch.setattr(Outlet, "idle", False)
        more.set()
        assert await answer.read() == DONE


class Quiet:
    """A stream that was last heard of at `last`."""

    def __init__(self, last: float) -> None:
        self.last = last
        self.asked = 0

    def speak(self, now: float, interval: float) -> float:
        self.asked += 1
        return max(self.last, now) + interval


async def test_one_timer_walks_all_streams() -> None:
    """However many streams there are, and whatever comes in them, there is one timer; it rests
    where there are none.
    """
    pulse, loop = Pulse(0.02), asyncio.get_running_loop()
    set_up = 0
    call_later = loop.call_later

    def counted(*given: Any) -> asyncio.TimerHandle:
        nonlocal set_up
        set_up += given[1] == pulse._beat
        return call_later(*given)

    loop.call_later = counted  # type: ignore[method-assign,assignment]
    try:
        streams = [Quiet(0) for _ in range(1000)]
        for stream in streams:
            pulse.add(stream)
        assert set_up == 1
        await until(lambda: all(stream.asked for stream in streams))
        for stream in streams:
            pulse.discard(stream)
        await until(lambda: pulse._timer is None)
        assert set_up == 2
        pulse.add(streams[0])
        assert pulse._timer is not None
        pulse.stop()
    finally:
        del loop.call_later


async def test_the_rows_of_a_stream_with_comments(store_url: str) -> None:
    """A stream that began with comments is charged as one that did not."""
    async with open_two(store_url, server=SHORT) as two:
        told = sse({"choices": [], "usage": USAGE})
        two.one.script([Head(), Sleep(0.15), Send(TEXT + told + DONE), End()])
        assert await two.ask() == 200
        assert (await two.rows())["one"][:3] == (1, 12, 3)
