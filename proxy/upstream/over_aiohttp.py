"""Calls through aiohttp's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aiohttp

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Call, Outgoing, Sink, Timeouts

_OWN_HEADERS: Final = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "user-agent": "visiongate",
}

#: A body that ends early, a connection that drops: all one to the client.
_FAULTS: Final = (aiohttp.ClientError, OSError)


class AiohttpTransport:
    """One session for all providers. Redirects are never followed: they would carry keys."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def open(self, outgoing: Outgoing) -> AsyncIterator[Call]:
        timeouts = outgoing.timeouts
        loop = asyncio.get_running_loop()
        with _translated():
            async with asyncio.timeout(timeouts.first_byte):
                response = await self._session.post(
                    outgoing.url,
                    data=outgoing.body,
                    headers={**_OWN_HEADERS, **outgoing.headers},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect),
                )
        try:
            yield _AiohttpCall(response, timeouts, loop.time() + timeouts.total)
        finally:
            if response.content.at_eof() and response.content.exception() is None:
                response.release()
            else:
                response.close()


class _AiohttpCall:
    def __init__(
        self, response: aiohttp.ClientResponse, timeouts: Timeouts, deadline: float
    ) -> None:
        self._response = response
        self._timeouts = timeouts
        self._deadline = deadline
        self._reason: GatewayError | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0

        def keep(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > limit:
                raise UpstreamFailed("The upstream's answer is too large.")
            parts.append(data)

        await self.deliver(keep)
        return b"".join(parts)

    async def first(self) -> bytes:
        with self._faults():
            async with asyncio.timeout(self._timeouts.first_byte):
                return await self._response.content.readany()

    async def deliver(self, sink: Sink) -> None:
        loop, content = asyncio.get_running_loop(), self._response.content
        idle = self._timeouts.idle
        with self._faults():
            async with asyncio.timeout(None) as timeout:
                while True:
                    timeout.reschedule(min(loop.time() + idle, self._deadline))
                    data = await content.readany()
                    if not data:
                        return
                    sink(data)
                    if not self._flowing.is_set():
                        # The client's pace is the client's deadline, not the upstream's.
                        timeout.reschedule(self._deadline)
                        await self._flowing.wait()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def abort(self, reason: GatewayError) -> None:
        self._reason = reason
        self._flowing.set()
        self._response.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with _translated():
                yield
        except UpstreamFailed:
            if self._reason is not None:
                raise self._reason from None
            raise
        if self._reason is not None:
            raise self._reason


@contextmanager
def _translated() -> Iterator[None]:
    """The client's own errors as ours, which tell no address."""
    try:
        yield
    except TimeoutError as error:
        raise UpstreamTimeout("The upstream did not answer in time. Try again.") from error
    except _FAULTS as error:
        raise UpstreamFailed(
            "The upstream could not be reached, or broke off its answer. Try again."
        ) from error
