"""Calls through aiohttp's client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import BROKEN, GET_HEADERS, LATE, OWN_HEADERS, Outgoing, Sink, gathered

#: A body that ends early, a connection that drops: all one to the client. A RuntimeError is
#: what aiohttp's reader raises where the connection is closed and nobody told it why, a
#: UnicodeError what a resolver does of a host that is no name.
_FAULTS: Final = (aiohttp.ClientError, OSError, RuntimeError, UnicodeError)


class _Body(aiohttp.Payload):
    """A body that knows when it is written: once there is a connection for it."""

    def __init__(self, outgoing: Outgoing, sent: Callable[[], None]) -> None:
        super().__init__(outgoing.body)
        self._size = outgoing.size
        self._parts = outgoing.parts()
        self._sent = sent
        self.sent = False

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.sent = True
        self._sent()
        await writer.write(next(self._parts))
        for part in self._parts:
            await asyncio.sleep(0)  # a socket that takes it all gives nobody else a turn
            await writer.write(part)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError


class _Connector(aiohttp.TCPConnector):
    """Uses no connection again on which more came than the answer: aiohttp keeps it in the midst of
    a read, and takes the rest for the next request's.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (kept := await super()._get(key, traces)) is not None:
            if kept.protocol is None or not kept.protocol.should_close:
                break
            kept.close()
        return kept


class AiohttpTransport:
    """One session for all providers. Redirects are never followed: they would carry keys.

    A proxy that the environment names is used (HTTP_PROXY, HTTPS_PROXY, NO_PROXY); netrc is not.
    """

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._bodies: dict[ResponseHandler, aiohttp.StreamReader] = {}

    async def close(self) -> None:
        await self._session.close()

    def open(self, outgoing: Outgoing, sent: Callable[[], None]) -> AiohttpCall:
        return AiohttpCall(self, outgoing, sent)

    def get(self, outgoing: Outgoing) -> AiohttpCall:
        return AiohttpCall(self, outgoing, None)

    async def ask(self, outgoing: Outgoing, body: _Body | None) -> aiohttp.ClientResponse:
        response = await self._session.request(
            "GET" if body is None else "POST",
            outgoing.url,
            data=body,
            headers={**(GET_HEADERS if body is None else OWN_HEADERS), **outgoing.headers},
            allow_redirects=False,
            proxy=_proxy(outgoing.url),
            timeout=aiohttp.ClientTimeout(total=None, connect=outgoing.timeouts.connect),
        )
        self._watch(response)
        return response

    def _watch(self, response: aiohttp.ClientResponse) -> None:
        """End a body with its connection.

        aiohttp closes a connection whose framing is broken, and leaves the reader waiting.
        """
        protocol = response.connection.protocol if response.connection else None
        closed = None if protocol is None else protocol.closed
        if protocol is None or closed is None:
            return
        if protocol not in self._bodies:
            closed.add_done_callback(lambda closed: self._lost(protocol, closed))
        self._bodies[protocol] = response.content

    def _lost(self, protocol: ResponseHandler, closed: asyncio.Future[None]) -> None:
        closed.exception()  # the body has been told, or is now
        body = self._bodies.pop(protocol)
        if body.exception() is None and not body.is_eof():
            body.set_exception(aiohttp.ClientPayloadError("the connection is closed"))


def _proxy(url: str) -> str | None:
    """The proxy that the environment has for a URL, by the rules of the standard library."""
    parsed = urlsplit(url)
    if proxy_bypass_environment(parsed.netloc.rpartition("@")[2]):
        return None
    return getproxies_environment().get(parsed.scheme)


class AiohttpCall:
    """A request and its answer: a `Call`."""

    status = 0  # until the head has come
    chunks = b""
    headers: Mapping[str, str] = MappingProxyType({})
    _reason: GatewayError | None = None
    _response: aiohttp.ClientResponse | None = None

    def __init__(
        self, transport: AiohttpTransport, outgoing: Outgoing, sent: Callable[[], None] | None
    ) -> None:
        self._transport = transport
        self._outgoing = outgoing
        self._called = sent
        timeouts, begun = outgoing.timeouts, asyncio.get_running_loop().time()
        self.begun, self.asked = begun, False
        self._all_by = begun + timeouts.total
        self._first_by = min(begun + timeouts.first_byte, self._all_by)
        self._idle = timeouts.idle
        self._asking = asyncio.timeout_at(self._first_by)
        self.heard = monotonic()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def head(self) -> None:
        body = None if self._called is None else _Body(self._outgoing, self._called)
        try:
            async with self._asking:
                response = self._response = await self._transport.ask(self._outgoing, body)
        except _FAULTS as error:
            self.asked = body is not None and body.sent
            if self._reason is not None:
                raise self._reason from None
            failure = _translated(error)
            failure.billed = failure.billed and self.asked
            raise failure from error
        self.asked = True
        if self._reason is not None:  # which came in the very turn of the answer
            raise self._reason
        self.status, self.headers = response.status, response.headers

    @property
    def over(self) -> bool:
        return self._content.at_eof() and self._content.exception() is None

    @property
    def _content(self) -> aiohttp.StreamReader:
        assert self._response is not None, "used before its head came"
        return self._response.content

    def leave(self) -> None:
        if self._response is not None:
            if self.over:
                self._response.release()
            else:
                self._response.close()

    async def read(self, limit: int) -> bytes:
        return await gathered(self.deliver, limit)

    async def first(self) -> bytes:
        try:
            async with asyncio.timeout_at(self._first_by):
                return await self._more()
        except TimeoutError as error:
            raise _translated(error) from error

    async def more(self) -> bytes:
        self._first_by = min(asyncio.get_running_loop().time() + self._idle, self._all_by)
        return await self.first()

    async def deliver(self, sink: Sink) -> None:
        time = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as timeout:
                while True:
                    if not self._flowing.is_set():
                        # The client's pace is the client's deadline, not the upstream's.
                        timeout.reschedule(self._all_by)
                        await self._flowing.wait()
                    timeout.reschedule(min(time() + self._idle, self._all_by))
                    data = await self._more()
                    self.heard = monotonic()
                    if not data:
                        return
                    sink(data)
        except TimeoutError as error:
            raise _translated(error) from error

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def abort(self, reason: GatewayError) -> None:
        self._reason = self._reason or reason
        self._flowing.set()
        if self._response is not None:
            self._response.close()
        elif not self._asking.expired():
            self._asking.reschedule(0)

    async def _more(self) -> bytes:
        """What has come, b"" at the end. What the sink raises is not the upstream's fault."""
        content = self._content
        if content.exception() is not None and content._buffer and self._reason is None:
            return content._read_nowait(-1)  # what came before a fault: `readany` would tell that
        try:
            data = await content.readany()
        except _FAULTS as error:
            raise self._reason or _translated(error) from error
        if self._reason is not None:
            raise self._reason
        return data


def _translated(error: Exception) -> UpstreamFailed:
    """One of the client library's errors as ours, which tells no address."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeout(LATE)
    return UpstreamFailed(BROKEN)
