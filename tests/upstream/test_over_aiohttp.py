"""What aiohttp's client alone does: the environment's proxy, and connections that are watched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxy.domain.errors import UpstreamFailed
from proxy.upstream.call import Outgoing
from proxy.upstream.over_aiohttp import AiohttpTransport
from tests.gateway import until
from tests.scripted import Close, Head, Raw, ScriptedUpstream, Send, Step, chat_json
from tests.upstream.asking import HANG, answered
from tests.upstream.test_transports import PATIENT, ignore, outgoing, read


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport()
    yield made
    await made.close()


@pytest.mark.parametrize(("spared", "asked"), [("", "http://a.example/x"), ("a.example", None)])
async def test_the_environments_proxy(
    transport: AiohttpTransport,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    spared: str,
    asked: str | None,
) -> None:
    """A provider is reached by the proxy that the environment names, unless it is spared."""
    monkeypatch.setenv("http_proxy", upstream.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", spared)
    upstream.script(chat_json("Hi"))
    call = answered(transport.open(Outgoing("http://a.example/x", {}, [b"{}"], PATIENT), ignore))
    if asked is None:
        with pytest.raises(UpstreamFailed):
            await call.__aenter__()
    else:
        async with call as answer:
            assert answer.status == 200
    assert [sent.path for sent in upstream.requests] == ([asked] if asked else [])


async def test_connections_are_watched_once(
    transport: AiohttpTransport, upstream: ScriptedUpstream
) -> None:
    """A connection that serves many requests is remembered once, and forgotten with its end."""
    upstream.script(chat_json("Hi"))
    for _ in range(5):
        async with answered(transport.open(outgoing(upstream), ignore)) as call:
            await call.read(10_000)
    upstream.script([Head(), Send(b"x"), Close()])
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(UpstreamFailed):
            await read(call)
    assert upstream.connections == 1
    await until(lambda: not transport._bodies)


async def test_what_comes_with_an_answers_end(
    transport: AiohttpTransport, upstream: ScriptedUpstream
) -> None:
    """Another answer in one piece with the end of the first is nobody's: the connection is closed,
    and the next request has its own."""
    other = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother"
    upstream.script([Head(), Send(b"one"), Raw(b"0\r\n\r\n" + other), HANG])
    upstream.script(chat_json("Hi"))
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        assert await call.first() == b"one"
        assert await call.read(10) == b""
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        assert b"Hi" in await call.read(10_000)
    await upstream.wait_closed(1)
    assert upstream.connections == 2


@pytest.mark.parametrize("fault", [Close(), Raw(b"zz\r\nrubbish")])
async def test_what_came_before_a_fault(
    transport: AiohttpTransport, upstream: ScriptedUpstream, fault: Step
) -> None:
    """Bytes that came before a connection broke are delivered, and then the fault is told."""
    upstream.script([Head(), Send(b"one"), Send(b"two"), fault])
    parts: list[bytes] = []
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        await until(lambda: call._content.exception() is not None)
        parts.append(await call.first())
        with pytest.raises(UpstreamFailed):
            await call.deliver(parts.append)
    assert b"".join(parts) == b"onetwo"
