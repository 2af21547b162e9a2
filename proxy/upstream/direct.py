"""Calls over connections of our own: HTTP/1.1 on TCP or TLS, kept between requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from proxy.domain.errors import UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import OWN_HEADERS, Outgoing
from proxy.upstream.connection import Connection
from proxy.upstream.exchange import BROKEN, LATE, Dropped, Exchange
from proxy.upstream.http1 import request_head
from proxy.upstream.pool import Pool, located


class DirectTransport:
    """Connections to all providers. No proxy, no redirect, no cookie; TLS is verified."""

    def __init__(self) -> None:
        self._pool = Pool()

    @property
    def busy(self) -> int:
        """Connections that a call is on."""
        return self._pool.busy

    async def close(self) -> None:
        self._pool.close()

    def open(self, outgoing: Outgoing, sent: Callable[[], None]) -> Opening:
        return Opening(self._pool, outgoing, sent)


class Opening:
    """One request, from its connection to its answer's head, and the connection's way back."""

    def __init__(self, pool: Pool, outgoing: Outgoing, sent: Callable[[], None]) -> None:
        self._pool = pool
        self._outgoing = outgoing
        self._sent = sent
        self._exchange: Exchange | None = None

    async def __aenter__(self) -> Exchange:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        timeouts = self._outgoing.timeouts
        self._connect_by = self._begun + min(timeouts.connect, timeouts.first_byte)
        self._origin, host, target = located(self._outgoing.url)
        headers = {**OWN_HEADERS, **self._outgoing.headers}
        self._head = request_head(target, host, headers, self._outgoing.size)
        kept = self._pool.take(self._origin)
        connection = kept or await self._connect()
        self._sent()
        try:
            return await self._ask(connection)
        except Dropped:
            if kept is None:
                raise
        # The server closed it while nobody used it. One that had seen the request would have said
        # something, or taken longer: beyond the deadline for connecting there is no second try.
        return await self._ask(await self._connect())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._pool.remember(self._origin, exchange.connection)
            if exchange.leave():
                self._pool.give(self._origin, exchange.connection, exchange.keep)

    async def _ask(self, connection: Connection) -> Exchange:
        outgoing = self._outgoing
        exchange = self._exchange = Exchange(connection, outgoing.timeouts, self._begun)
        try:
            await exchange.send(self._head, outgoing.parts())
            await exchange.head()
        except BaseException:
            exchange.leave()
            raise
        return exchange

    async def _connect(self) -> Connection:
        timeouts, late = self._outgoing.timeouts, UpstreamFailed(BROKEN)
        if timeouts.first_byte < timeouts.connect:
            late = UpstreamTimeout(LATE)
            late.billed = False
        try:
            async with asyncio.timeout_at(self._connect_by):
                return await self._pool.connect(self._origin)
        except TimeoutError as error:
            raise late from error
        except (OSError, ValueError, RuntimeError) as error:  # no name, no server; uvloop's
            raise UpstreamFailed(BROKEN) from error
