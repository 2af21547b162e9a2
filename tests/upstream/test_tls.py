"""TLS: verified, resumed, and an end that nobody can feign."""

from __future__ import annotations

import asyncio

import pytest

from proxy.domain.errors import UpstreamFailed
from proxy.upstream.call import Outgoing
from proxy.upstream.direct import DirectTransport
from tests.gateway import until
from tests.scripted import (
    Close,
    Cut,
    End,
    Head,
    Raw,
    ScriptedUpstream,
    Send,
    chat_json,
)
from tests.upstream.asking import PATIENT, answered, ask, at, opened, resolving, talking


async def test_tls(transport: DirectTransport, secure: ScriptedUpstream) -> None:
    """A provider behind TLS is asked over TLS, by a connection that is kept."""
    secure.script(chat_json("Hi"))
    for _ in range(2):
        made, body = await opened(transport, f"{secure.url}/x")
        assert b"Hi" in body
        assert made.version() == "TLSv1.3"
    assert secure.connections == 1


async def test_a_tls_session_is_resumed(
    transport: DirectTransport, secure: ScriptedUpstream
) -> None:
    """A second connection to a server spares the handshake's signatures."""
    secure.script([Head(200, (("Connection", "close"),)), End()])
    sessions = [(await opened(transport, f"{secure.url}/x"))[0].session_reused for _ in range(2)]
    assert sessions == [False, True]


async def test_a_certificate_of_nobody(
    transport: DirectTransport, secure: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the certificate is not trusted, nothing is sent."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UpstreamFailed) as caught:
        await ask(transport, secure)
    assert (caught.value.billed, secure.requests) == (False, [])


async def test_a_certificate_of_somebody_else(
    transport: DirectTransport, secure: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted certificate for another name is none for this one."""
    secure.script(chat_json("Hi"))
    resolving(monkeypatch, lambda _: [at(secure.port)])
    with pytest.raises(UpstreamFailed):
        await opened(transport, f"https://elsewhere.example:{secure.port}/x")
    assert secure.requests == []
    assert b"{" in (await opened(transport, f"https://localhost:{secure.port}/x"))[1]


@pytest.mark.parametrize("alert", [True, False])
async def test_a_body_that_ends_with_its_tls_connection(
    transport: DirectTransport, secure: ScriptedUpstream, alert: bool
) -> None:
    """Over TLS the end of a connection ends a body only with the server's alert: else anybody may
    have cut it (RFC 9112, 9.8)."""
    secure.script([Raw(b"HTTP/1.1 200 OK\r\n\r\nall"), Close() if alert else Cut()])
    if alert:
        assert (await opened(transport, f"{secure.url}/x"))[1] == b"all"
    else:
        with pytest.raises(UpstreamFailed):
            await ask(transport, secure)


async def test_a_paused_call_over_tls_loses_nothing(
    transport: DirectTransport, secure: ScriptedUpstream
) -> None:
    """What came while a client did not read is delivered, also where the server left meanwhile."""
    secure.script([Head(), *[Send(b"x" * 1000)] * 20, End(), Close()])
    got: list[bytes] = []
    async with answered(
        transport.open(Outgoing(f"{secure.url}/x", {}, [b"{}"], PATIENT), print)
    ) as call:

        def sink(data: bytes) -> None:
            got.append(data)
            call.pause()

        delivery = asyncio.create_task(call.deliver(sink))
        await until(lambda: call.connection.closing)
        assert not delivery.done()
        while not delivery.done():
            call.resume()
            await asyncio.sleep(0)
        await delivery
    assert len(b"".join(got)) == 20_000


async def test_leaving_in_the_handshake(transport: DirectTransport) -> None:
    """Who is cancelled while TLS is being agreed on leaves no connection behind."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        await reader.read()
        ended.set()

    async with talking(mute) as url:
        asking = asyncio.create_task(opened(transport, url.replace("http:", "https:")))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await ended.wait()
    assert transport.busy == 0
