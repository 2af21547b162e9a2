"""Calls, whichever transport makes them: what is sent, whose fault is whose, every deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.domain.errors import AnswerTooLarge, Forbidden, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Call, Outgoing, Timeouts, Transport
from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport
from tests.gateway import until
from tests.scripted import (
    End,
    Head,
    Pause,
    Raw,
    ScriptedUpstream,
    Send,
    Sleep,
    chat_json,
)
from tests.upstream.asking import answered

HANG = Sleep(60)
PATIENT = Timeouts(connect=2, first_byte=2, idle=2, total=10)


@pytest.fixture(params=[DirectTransport, AiohttpTransport])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    made: Transport = request.param()
    yield made
    await made.close()


def outgoing(up: ScriptedUpstream, timeouts: Timeouts = PATIENT, **headers: str) -> Outgoing:
    return Outgoing(f"{up.url}/chat/completions", headers, [b'{"a":1}'], timeouts)


def ignore() -> None:
    pass


async def read(call: Call) -> bytes:
    parts: list[bytes] = []
    await call.deliver(parts.append)
    return b"".join(parts)


async def test_a_request_goes_out_as_it_was_made(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """The body goes up byte for byte, with our headers, and no compression is asked for."""
    upstream.script(chat_json("Hi"))
    async with answered(
        transport.open(outgoing(upstream, authorization="Bearer x"), ignore)
    ) as call:
        assert (call.status, call.headers["content-type"]) == (200, "application/json")
        await call.read(10_000)
    (sent,) = upstream.requests
    assert (sent.method, sent.path, sent.body) == ("POST", "/v1/chat/completions", b'{"a":1}')
    assert sent.header("authorization") == "Bearer x"
    assert sent.header("content-type") == "application/json"
    assert sent.header("accept-encoding") == "identity"
    assert sent.header("cookie") is None


async def test_an_answer_that_is_too_large(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """A body over the limit is a failure, and its connection is closed."""
    upstream.script([Head(), Send(b"x" * 11), HANG])
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(AnswerTooLarge, match="too large"):
            await call.read(10)
    await upstream.wait_closed(1)


@pytest.mark.parametrize(
    ("timeouts", "steps"),
    [
        (Timeouts(2, 0.1, 2, 10), [HANG]),
        (Timeouts(2, 0.1, 2, 10), [Head(), HANG]),
        (Timeouts(2, 2, 0.1, 10), [Head(), Send(b"x"), HANG]),
        (Timeouts(2, 2, 2, 0.1), [Head(), Send(b"x"), HANG]),
    ],
    ids=["the head", "the first byte", "idle", "total"],
)
async def test_each_deadline(
    transport: Transport,
    upstream: ScriptedUpstream,
    timeouts: Timeouts,
    steps: list[Head | Send | Sleep],
) -> None:
    """Head and first byte share a deadline, a silence has one, and so has the whole."""
    upstream.script(steps)

    async def ask() -> None:
        async with answered(transport.open(outgoing(upstream, timeouts), ignore)) as call:
            await call.first()
            await read(call)

    with pytest.raises(UpstreamTimeout):
        await ask()
    await upstream.wait_closed(1)


@pytest.mark.parametrize(
    ("timeouts", "fault"),
    [(Timeouts(0.05, 9, 9, 9), UpstreamFailed), (Timeouts(9, 0.05, 9, 9), UpstreamTimeout)],
    ids=["connect", "first_byte"],
)
async def test_a_name_that_is_not_found_in_time(
    transport: Transport,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    timeouts: Timeouts,
    fault: type[UpstreamFailed],
) -> None:
    """Until there is a connection nothing is sent, which is told, and bills nothing."""

    async def resolve(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    sent: list[bool] = []
    asked = Outgoing("http://nobody.example/", {}, [b"{}"], timeouts)
    with pytest.raises(UpstreamFailed) as caught:
        async with answered(transport.open(asked, lambda: sent.append(True))):
            pass
    assert (type(caught.value), caught.value.billed, sent) == (fault, False, [])


async def test_a_call_that_is_aborted_before_it_has_a_connection(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call can be ended from its beginning: what waits raises the reason, and nothing is sent."""
    asked = asyncio.Event()

    async def resolve(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    sent: list[bool] = []
    call = transport.open(
        Outgoing("http://nobody.example/", {}, [b"{}"], PATIENT), lambda: sent.append(True)
    )
    waiting = asyncio.create_task(call.head())
    await asked.wait()
    call.abort(Forbidden("enough"))
    call.abort(Forbidden("again"))
    with pytest.raises(Forbidden, match="enough"):
        await waiting
    call.leave()
    assert (call.status, sent) == (0, [])


async def test_a_call_that_is_aborted_before_its_head(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """A call that waits for its head raises the reason, and its connection is closed."""
    upstream.script([HANG])
    call = transport.open(outgoing(upstream), ignore)
    waiting = asyncio.create_task(call.head())
    await upstream.wait_requests(1)
    call.abort(Forbidden("enough"))
    with pytest.raises(Forbidden, match="enough"):
        await waiting
    call.leave()
    await upstream.wait_closed(1)


async def test_what_was_sent_is_billed(transport: Transport, upstream: ScriptedUpstream) -> None:
    """Once the request is on its way, that is told once, and being late may be billed."""
    upstream.script([HANG])
    sent: list[bool] = []
    with pytest.raises(UpstreamTimeout) as caught:
        async with answered(
            transport.open(outgoing(upstream, Timeouts(2, 0.1, 2, 10)), lambda: sent.append(True))
        ):
            pass
    assert (caught.value.billed, sent) == (True, [True])


async def test_a_slow_reader_is_not_the_upstreams_fault(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """While a call is paused nothing is delivered, and the idle deadline does not run."""
    more = asyncio.Event()
    upstream.script([Head(), Send(b"one"), Pause(more), Send(b"two"), End()])
    parts: list[bytes] = []
    async with answered(
        transport.open(outgoing(upstream, Timeouts(2, 2, 0.05, 10)), ignore)
    ) as call:

        def sink(data: bytes) -> None:
            parts.append(data)
            call.pause()

        delivery = asyncio.create_task(call.deliver(sink))
        await until(lambda: parts == [b"one"])
        more.set()
        done, _ = await asyncio.wait([delivery], timeout=0.2)  # four times the idle deadline
        assert not done
        assert parts == [b"one"]
        call.resume()
        await until(lambda: parts == [b"one", b"two"])
        call.resume()
        await delivery


async def test_a_call_that_was_paused_before_it_delivers(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """A pause holds from the first piece on."""
    upstream.script([Head(), Send(b"one"), Send(b"two"), End()])
    parts: list[bytes] = []
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        parts.append(await call.first())
        call.pause()
        delivery = asyncio.create_task(call.deliver(parts.append))
        await upstream.wait_requests(1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(parts) == 1
        call.resume()
        await delivery
    assert b"".join(parts) == b"onetwo"


@pytest.mark.parametrize("paused", [True, False])
async def test_an_abort_wakes_who_waits(
    transport: Transport, upstream: ScriptedUpstream, paused: bool
) -> None:
    """Aborting closes the connection, and what waits on the call raises the reason."""
    upstream.script([Head(), Send(b"one"), HANG])
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        await call.first()
        if paused:
            call.pause()
        delivery = asyncio.create_task(read(call))
        await asyncio.sleep(0)
        call.abort(Forbidden("enough"))
        with pytest.raises(Forbidden, match="enough"):
            await delivery
        await upstream.wait_closed(1)


async def test_what_the_sink_raises_is_not_translated(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """An error of the receiving side, even an OSError, is not the upstream's."""
    upstream.script([Head(), Send(b"one"), HANG])

    def sink(data: bytes) -> None:
        raise ConnectionResetError("the client")

    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(ConnectionResetError, match="the client"):
            await call.deliver(sink)
    await upstream.wait_closed(1)


@pytest.mark.parametrize("length", [True, False])
async def test_what_the_sink_raises_at_the_very_end(
    transport: Transport, upstream: ScriptedUpstream, length: bool
) -> None:
    """An error of the receiving side is told, also where it was the last piece that it was for."""
    head = b"content-length: 3\r\n\r\none" if length else b"transfer-encoding: chunked\r\n\r\n"
    upstream.script([Raw(b"HTTP/1.1 200 OK\r\n" + head + b"3\r\none\r\n0\r\n\r\n" * (not length))])

    def sink(data: bytes) -> None:
        raise KeyError("ours")

    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(KeyError):
            await call.deliver(sink)


async def test_a_whole_answer_that_is_too_large(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """A body over the limit is a failure, also where it came all at once."""
    upstream.script(chat_json("Hi"))
    async with answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(AnswerTooLarge):
            await call.read(10)


@pytest.mark.parametrize("together", [True, False])
async def test_broken_framing_ends_a_body_at_once(
    transport: Transport, upstream: ScriptedUpstream, together: bool
) -> None:
    """Chunks that cannot be read are a failure when they come, not at the idle deadline."""
    chunk, rubbish = b"3\r\none\r\n", b"zz\r\nrubbish"
    pieces = [Raw(chunk + rubbish)] if together else [Raw(chunk), Raw(rubbish)]
    upstream.script([Head(), *pieces, HANG])
    async with asyncio.timeout(1), answered(transport.open(outgoing(upstream), ignore)) as call:
        with pytest.raises(UpstreamFailed):
            await read(call)


async def test_cancelling_closes_the_connection(
    transport: Transport, upstream: ScriptedUpstream
) -> None:
    """Who is cancelled while it waits for the head leaves no connection behind."""
    upstream.script([HANG])

    async def ask() -> None:
        async with answered(transport.open(outgoing(upstream), ignore)):
            pass

    task = asyncio.create_task(ask())
    await upstream.wait_requests(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.wait_closed(1)
