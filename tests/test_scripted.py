"""The scripted upstream, driven by a bare socket and by aiohttp's client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

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
    chat_json,
    chat_stream,
    error_json,
    sse,
)

GET = b"GET /v1/models?a=b HTTP/1.1\r\nHost: up\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@asynccontextmanager
async def dial(
    up: ScriptedUpstream,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(up: ScriptedUpstream, *steps: Step, request: bytes = GET) -> bytes:
    """All that comes for a request, of a script that closes."""
    up.script(steps)
    async with dial(up) as (reader, writer):
        writer.write(request)
        return await reader.read()


async def test_a_chunked_answer_is_framed(up: ScriptedUpstream) -> None:
    """Head, Send and End make a chunked answer, a chunk to a Send and none for an empty one."""
    got = await exchange(up, Head(), Send(b"hello, world"), Send(b""), End(), Close())
    assert got == HEAD + b"c\r\nhello, world\r\n0\r\n\r\n"


async def test_an_answer_with_a_length_is_not_framed(up: ScriptedUpstream) -> None:
    """With chunked=False a Send goes out as it is, and End adds nothing."""
    head = Head(204, (("Content-Length", "2"), ("X-A", "1"), ("X-A", "2")), chunked=False)
    got = await exchange(up, head, Send(b"hi"), End(), Close())
    assert got == (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi")


async def test_an_answer_without_length_ends_by_closing(up: ScriptedUpstream) -> None:
    """End closes the connection of a body with neither chunks nor a length."""
    got = await exchange(up, Head(529, (), chunked=False), Send(b"hi"), End())
    assert got == b"HTTP/1.1 529 Unnamed\r\n\r\nhi"


async def test_raw_goes_out_verbatim(up: ScriptedUpstream) -> None:
    """Raw is written without any framing, even where a head promised chunks."""
    got = await exchange(up, Raw(b"?!\r\n"), Head(), Raw(b"zz\r\n"), Close())
    assert got == b"?!\r\n" + HEAD + b"zz\r\n"


async def test_split_cuts_where_it_is_told(up: ScriptedUpstream) -> None:
    """Split makes a chunk of each size, and one of the rest."""
    got = await exchange(up, Head(), Split(b"abcdef", (1, 2)), End(), Close())
    assert got == HEAD + b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"


async def test_pieces_arrive_apart(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """A client on the same loop reads each piece of a Split alone."""
    text = sse({"a": 1}, {"b": 2})
    up.script([Head(), Split(text, (1, 5, 10)), End()])
    async with http.get(up.url) as answer:
        pieces = [piece async for piece in answer.content.iter_any()]
    assert pieces == [text[:1], text[1:6], text[6:16], text[16:]]


async def test_reset_is_an_error_and_close_an_end(up: ScriptedUpstream) -> None:
    """After a Reset the client's read raises, with what came before it delivered; Close is EOF."""
    assert await exchange(up, Head(), Send(b"x"), Close()) == HEAD + b"1\r\nx\r\n"
    up.script([Head(), Send(b"y"), Reset()])
    async with dial(up) as (reader, writer):
        writer.write(GET)
        assert await reader.readexactly(len(HEAD) + 6) == HEAD + b"1\r\ny\r\n"
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_aiohttp_sees_a_cut_stream(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """To aiohttp's client a stream that is closed or reset before its end is a payload error."""
    for last in (Close(), Reset()):
        up.script([Head(), Send(b"data: {}\n\n"), last])
        async with http.get(up.url) as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def test_pause_waits_for_its_event(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """What follows a Pause is sent once the test sets the event, and not before."""
    event = asyncio.Event()
    up.script([Head(), Send(b"one"), Pause(event), Send(b"two"), Sleep(0), End()])
    async with http.get(up.url) as answer:
        assert await answer.content.readany() == b"one"
        assert not answer.content.at_eof()
        rest = asyncio.ensure_future(answer.content.read())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not rest.done()
        event.set()
        assert await rest == b"two"


async def test_leaving_is_noticed_during_a_pause(up: ScriptedUpstream) -> None:
    """A client that closes while the script pauses is seen to have gone, and the script stops."""
    event = asyncio.Event()
    up.script([Head(), Pause(event), End()])
    async with dial(up) as (_, writer):
        writer.write(GET)
        await up.wait_requests(1)
        assert up.closed_at == {}
    await up.wait_closed(1)
    assert list(up.closed_at) == [1]
    assert up.closed_at[1] <= asyncio.get_running_loop().time()


async def test_a_closing_script_is_no_leaving_client(up: ScriptedUpstream) -> None:
    """A connection that the script ended does not count as closed by its client."""
    for step in (Close(), Reset()):
        up.script([step])
        async with dial(up) as (reader, writer):
            writer.write(GET)
            await asyncio.gather(reader.read(), return_exceptions=True)
    async with dial(up):
        pass
    await up.wait_closed(1)
    assert list(up.closed_at) == [3]


async def test_requests_are_recorded(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """Method, target, headers in order and case, body and connection of a request are kept."""
    up.script(chat_json("hi"))
    async with dial(up) as (reader, writer):
        writer.write(b"POST /x?y HTTP/1.1\r\nA: 1\r\nb:  2 \r\nA: 3\r\nContent-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")
    async with http.post(up.url, json={"a": 1}):
        pass
    headers = [("A", "1"), ("b", "2"), ("A", "3"), ("Content-Length", "2")]
    first, second = up.requests
    assert first == Recorded("POST", "/x?y", headers, b"{}", 1)
    assert (first.header("a"), first.header("none")) == ("1", None)
    assert (second.json(), second.connection_id, up.connections) == ({"a": 1}, 2, 2)


async def test_chunked_requests_are_read(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """A chunked body is put together, with extensions and trailers passed over."""
    body = b"3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    await exchange(up, Close(), request=head + body)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 200_000
        yield b"y"

    up.script(chat_json("hi"))
    async with http.post(up.url, data=pieces()):
        pass
    assert [request.body for request in up.requests] == [
        b"abc0123456789",
        b"x" * 200_000 + b"y",
    ]


async def test_connections_are_kept_alive(
    up: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """Requests that follow each other share a connection; `Connection: close` ends it."""
    up.script(chat_stream(["a"], usage=USAGE))
    for close in ({}, {"Connection": "close"}, {}):
        async with http.get(up.url, headers=close) as answer:
            await answer.read()
    assert [request.connection_id for request in up.requests] == [1, 1, 2]


async def test_pipelined_requests_are_answered_in_order(up: ScriptedUpstream) -> None:
    """Two requests in one write get two answers, the second's script after the first's."""
    up.script([Raw(b"one")])
    assert await exchange(up, Raw(b"two"), Close(), request=GET + GET) == b"onetwo"


async def test_the_last_script_repeats(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """Scripts are taken in turn, and the last answers every request after it."""
    up.script(error_json(429, "slow down", "requests", "rate_limit_exceeded"))
    up.script(iter(chat_json("hi")))
    statuses = []
    for _ in range(3):
        async with http.get(up.url) as answer:
            statuses.append(answer.status)
    assert statuses == [429, 200, 200]


async def test_a_script_may_read_the_request(
    up: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """A function is called with each request and answers it."""
    up.script(lambda request: chat_json(request.json()["say"], USAGE))
    for word in ("ja", "nej"):
        async with http.post(up.url, json={"say": word}) as answer:
            got = await answer.json()
        assert got["choices"][0]["message"]["content"] == word
        assert got["usage"] == USAGE


async def test_a_stream_has_the_reference_shape(
    up: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    """Without a usage the events are those of the API's reference, to the byte."""
    up.script(chat_stream(["The image shows"]))
    start = (
        'data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1677652288,'
        '"model":"gpt-4o","choices":[{"index":0,"delta":'
    )
    async with http.get(up.url) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.text() == (
            start + '{"role":"assistant"},"finish_reason":null}]}\n\n'
            + start + '{"content":"The image shows"},"finish_reason":null}]}\n\n'
            + start + '{},"finish_reason":"stop"}]}\n\n'
            + "data: [DONE]\n\n"
        )  # fmt: skip


async def test_a_stream_with_usage_ends_with_it() -> None:
    """With a usage each chunk carries null, and the last before [DONE] no choice but the usage."""
    sends = [step.data for step in chat_stream(["a"], USAGE) if isinstance(step, Send)]
    *events, done = [send.removeprefix(b"data: ").removesuffix(b"\n\n") for send in sends]
    assert done == b"[DONE]"
    *chunks, last = [json.loads(event) for event in events]
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert (last["choices"], last["usage"]) == ([], USAGE)


async def test_an_error_has_the_envelope(up: ScriptedUpstream, http: aiohttp.ClientSession) -> None:
    """error_json makes OpenAI's envelope with its status and headers."""
    up.script(error_json(404, "no", code="model_not_found", headers=[("Retry-After", "1")]))
    async with http.get(up.url) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (404, "1")
        error = (await answer.json())["error"]
    kind = "invalid_request_error"
    assert error == {"message": "no", "type": kind, "param": None, "code": "model_not_found"}
