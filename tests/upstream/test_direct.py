"""Our own connections: kept, tried again once, and never used for two at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.domain.errors import Forbidden, UpstreamFailed, UpstreamTimeout
from proxy.upstream import pool
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
    Step,
    chat_json,
)
from tests.upstream.asking import HANG, PATIENT, answered, ask, opened


async def test_no_environment_puts_a_proxy_between(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable of the environment is not obeyed: it would see every key."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    upstream.script(chat_json("Hi"))
    assert b"Hi" in await ask(transport, upstream)


async def test_a_connection_is_kept(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """One after another, requests go over one connection; at once, over one each."""
    upstream.script(chat_json("Hi"))
    for _ in range(3):
        await ask(transport, upstream)
    assert upstream.connections == 1
    await asyncio.gather(*(ask(transport, upstream) for _ in range(3)))
    assert upstream.connections == 3


@pytest.mark.parametrize(
    "steps",
    [
        [Head(200, (("Connection", "close"),)), End()],
        [Head(200, (("Keep-Alive", "timeout=1"),)), End()],
        [Head(200, (("Content-Length", "2"),), chunked=False), Raw(b"{}more")],
        [Head(), Raw(b"0\r\n\r\nmore")],
    ],
    ids=["close", "a second", "more than a length", "more than the chunks"],
)
async def test_connections_that_are_not_kept(
    transport: DirectTransport, upstream: ScriptedUpstream, steps: list[Any]
) -> None:
    """A server that will close, or that said more than its answer, is not asked twice on one."""
    upstream.script([*steps, HANG])
    await ask(transport, upstream)
    await ask(transport, upstream)
    assert upstream.connections == 2


@pytest.mark.parametrize("end", [Reset(), Close()])
async def test_a_connection_that_the_server_closed(
    transport: DirectTransport, upstream: ScriptedUpstream, end: Reset | Close
) -> None:
    """A kept connection that ends before anything came back costs the client nothing."""
    upstream.script(chat_json("Hi"))
    await ask(transport, upstream)
    upstream.script([end])
    upstream.script(chat_json("Again"))
    calls: list[bool] = []
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    async with answered(transport.open(asked, lambda: calls.append(True))) as call:
        assert b"Again" in await call.read(10_000)
    assert (len(upstream.requests), calls) == (3, [True])


async def test_how_a_request_begins(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """The request line has the URL's path and query, and the host its port."""
    upstream.script(chat_json("Hi"))
    await opened(transport, f"{upstream.url}/x?y=1")
    (sent,) = upstream.requests
    assert (sent.path, sent.header("host")) == ("/v1/x?y=1", upstream.url.split("/")[2])


async def test_it_is_sent_again_only_once(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """A new connection that ends without a word is a failure."""
    upstream.script(chat_json("Hi"))
    await ask(transport, upstream)
    upstream.script([Reset()])
    with pytest.raises(UpstreamFailed):
        await ask(transport, upstream)
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("said", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Hints\r\n\r\n"])
async def test_it_is_not_sent_again_where_something_came(
    transport: DirectTransport, upstream: ScriptedUpstream, said: bytes
) -> None:
    """A server that has begun to answer has seen the request, and may bill it."""
    upstream.script(chat_json("Hi"))
    await ask(transport, upstream)
    upstream.script([Raw(said), Close()])
    with pytest.raises(UpstreamFailed):
        await ask(transport, upstream)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("steps", "timeouts", "error"),
    [
        ([HANG], Timeouts(2, 0.1, 2, 10), UpstreamTimeout),
        ([Sleep(0.1), Reset()], Timeouts(0.05, 2, 2, 10), UpstreamFailed),
    ],
    ids=["silent", "ended much later"],
)
async def test_it_is_not_sent_again_where_the_server_was_at_work(
    transport: DirectTransport,
    upstream: ScriptedUpstream,
    steps: list[Step],
    timeouts: Timeouts,
    error: type[UpstreamFailed],
) -> None:
    """Neither a deadline nor an end after a while is a reason to ask again."""
    upstream.script(chat_json("Hi"))
    await ask(transport, upstream)
    upstream.script(steps)
    with pytest.raises(error):
        await opened(transport, f"{upstream.url}/x", timeouts=timeouts)
    assert len(upstream.requests) == 2


async def test_an_answer_to_no_request(
    transport: DirectTransport, upstream: ScriptedUpstream
) -> None:
    """What comes on a connection that nobody uses closes it, and is nobody's answer."""
    late = asyncio.Event()
    upstream.script([*chat_json("Hi"), Pause(late), Raw(b"HTTP/1.1 200 OK\r\n\r\nnot yours")])
    await ask(transport, upstream)
    late.set()
    await upstream.wait_closed(1)
    upstream.script(chat_json("Yours"))
    assert b"Yours" in await ask(transport, upstream)


async def test_a_connection_that_has_expired(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection is not used beyond the time for which its server keeps it."""
    upstream.script([Head(200, (("Keep-Alive", "timeout=5"),)), End()])
    await ask(transport, upstream)
    (connection,) = transport._pool._open
    now = asyncio.get_running_loop().time()
    assert now + 3 < connection.expires <= now + 4
    connection.expires = now
    await ask(transport, upstream)
    assert upstream.connections == 2


async def test_closing(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """Closing ends what is kept and what is under way, and nothing is kept from then on."""
    upstream.script(chat_json("Hi"))
    upstream.script([Head(), Send(b"x"), HANG])
    await ask(transport, upstream)
    asked = Outgoing(f"{upstream.url}/x", {}, [b"{}"], PATIENT)
    async with answered(transport.open(asked, lambda: None)) as call:
        await transport.close()
        with pytest.raises(UpstreamFailed):
            async with asyncio.timeout(1):
                await call.deliver(print)
    await until(lambda: not transport._pool._open)


async def test_kept_connections_expire(
    transport: DirectTransport, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that nobody uses is closed in the end."""
    monkeypatch.setattr(pool, "_KEPT_FOR", 0.1)
    upstream.script(chat_json("Hi"))
    await ask(transport, upstream)
    await upstream.wait_closed(1)


async def test_interim_answers(transport: DirectTransport, upstream: ScriptedUpstream) -> None:
    """A 1xx comes before the answer, and is none (RFC 9110, 15.2)."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    upstream.script([Raw(hints), *chat_json("Hi")])
    assert b"Hi" in await ask(transport, upstream)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    ],
    ids=["no HTTP", "another protocol", "too large", "two lengths", "bare line feeds"],
)
async def test_what_is_no_answer(
    transport: DirectTransport, upstream: ScriptedUpstream, said: bytes
) -> None:
    """What cannot be an answer is a failure when it comes, not at the deadline."""
    upstream.script([Raw(said), HANG])
    async with asyncio.timeout(1):
        with pytest.raises(UpstreamFailed):
            await ask(transport, upstream)
    await upstream.wait_closed(1)


async def test_a_call_that_is_aborted_while_its_connection_is_given_up(
    transport: DirectTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends a call in the very turn in which its time for connecting is up ends it well."""

    async def connect(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            call.abort(Forbidden("enough"))

    monkeypatch.setattr(pool, "start_connection", connect)
    asked = Outgoing("http://127.0.0.1:1/", {}, [b"{}"], Timeouts(0.05, 9, 9, 9))
    call = transport.open(asked, lambda: None)
    with pytest.raises(Forbidden, match="enough"):
        await call.head()
    call.leave()
