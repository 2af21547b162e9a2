"""One request by our own connections, for the tests of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest

from proxy.upstream.call import Call, Outgoing, Timeouts
from proxy.upstream.direct import DirectTransport
from tests.scripted import ScriptedUpstream, Sleep

HANG = Sleep(60)
PATIENT = Timeouts(connect=2, first_byte=2, idle=2, total=10)

C = TypeVar("C", bound=Call)
Found = Callable[[str], list[tuple[Any, ...]]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def resolving(monkeypatch: pytest.MonkeyPatch, found: Found) -> list[str]:
    """Names are looked up by `found`; the list has those that were asked for."""
    loop = asyncio.get_running_loop()
    real, asked = loop.getaddrinfo, []

    async def resolve(host: Any, port: Any, **options: Any) -> list[Any]:
        if host == "127.0.0.1":  # which a loop asks for on its own account
            return await real(host, port, **options)
        asked.append(host)
        return found(host)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    return asked


def at(port: int) -> tuple[Any, ...]:
    """An address, as a resolver tells it."""
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))


@asynccontextmanager
async def answered(call: C) -> AsyncIterator[C]:
    """A call whose answer's head has come, and that is left at the end."""
    try:
        await call.head()
        yield call
    finally:
        call.leave()


async def ask(transport: DirectTransport, up: ScriptedUpstream, body: bytes = b"{}") -> bytes:
    return (await opened(transport, f"{up.url}/chat/completions", body))[1]


async def opened(
    transport: DirectTransport, url: str, body: bytes = b"{}", timeouts: Timeouts = PATIENT
) -> tuple[Any, bytes]:
    """The TLS object of the connection, and the answer's body."""
    async with answered(transport.open(Outgoing(url, {}, [body], timeouts), lambda: None)) as call:
        made = call.connection.transport.get_extra_info("ssl_object")
        return made, await call.read(10_000_000)


@asynccontextmanager
async def talking(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The URL of a server that talks as it likes; its connections are closed at the end."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await talk(reader, writer)

    server = await asyncio.start_server(serve, host, 0)
    try:
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        await server.wait_closed()
