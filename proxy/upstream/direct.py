"""Calls over connections of our own: HTTP/1.1 on TCP or TLS, kept between requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.answer import Answer, Dropped
from proxy.upstream.call import BROKEN, GET_HEADERS, LATE, OWN_HEADERS, PART, Outgoing
from proxy.upstream.connection import Connection
from proxy.upstream.http1 import header_lines
from proxy.upstream.pool import Origin, Pool, located


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

    def open(self, outgoing: Outgoing, sent: Callable[[], None]) -> DirectCall:
        return DirectCall(self._pool, outgoing, sent)

    def get(self, outgoing: Outgoing) -> DirectCall:
        return _Get(self._pool, outgoing, lambda: None)


@lru_cache(512)
def beginning(url: str) -> tuple[Origin, bytes]:
    """The server that a URL leads to, and what every request for it begins with, up to its size."""
    origin, host, target = located(url)
    lines = header_lines({"host": host, **OWN_HEADERS})
    return origin, b"POST %b HTTP/1.1\r\n%bcontent-length: " % (target.encode(), lines)


class DirectCall(Answer):
    """One request, from its connection to that connection's way back: a `Call`."""

    __slots__ = ("_called", "_connecting", "_origin", "_outgoing", "_pool", "_reason", "_sent")

    def __init__(self, pool: Pool, outgoing: Outgoing, sent: Callable[[], None]) -> None:
        super().__init__(outgoing.timeouts)
        self._connecting: asyncio.Timeout | None = None
        self._reason: GatewayError | None = None  # why it was aborted before it had a connection
        self._pool = pool
        self._outgoing = outgoing
        self._called = sent
        self._sent = False  # all of the request

    @property
    def asked(self) -> bool:
        return self.connection is not None

    async def head(self) -> None:
        outgoing = self._outgoing
        self._origin, begins = beginning(outgoing.url)
        size, lines = outgoing.size, header_lines(outgoing.headers)
        head = b"%b%d\r\n%b\r\n" % (begins, size, lines)
        kept = self._pool.take(self._origin, self.begun)
        self.attach(kept or await self._connect())
        self._called()
        while True:
            try:
                if size <= PART:
                    self._transport.write(b"".join((head, *outgoing.body)))
                    self._sent = True
                else:
                    self._sent = await self._send(head, outgoing.parts())
                while not self.status:
                    await self._more()
                return
            except Dropped:
                if kept is None:
                    raise
            # The server closed it while nobody used it. One that had seen the request would have
            # said something, or taken longer: beyond the deadline for connecting there is no
            # second try.
            self._finish(kept)
            kept, self._sent = None, False
            self.attach(await self._connect())

    def abort(self, reason: GatewayError) -> None:
        if self._connecting is None:
            super().abort(reason)
        elif self._reason is None:
            self._reason = reason
            if not self._connecting.expired():  # else it is ending as it is
                self._connecting.reschedule(0)

    def leave(self) -> None:
        connection = self.connection
        if connection is not None:
            if connection.served == 1 and self.status:
                self._pool.remember(self._origin, connection)
            if self._finish(connection):
                self._pool.give(self._origin, connection, self._keep)

    async def _send(self, head: bytes, parts: Iterator[bytes | memoryview]) -> bool:
        """A large request, as fast as the server reads it; one that answers before it has read all
        is sent no more. Whether all was sent.
        """
        self._transport.write(head)
        self._transport.write(next(parts))
        for part in parts:
            await asyncio.sleep(0)  # a socket that takes it all gives nobody else a turn
            while not self.status and self._connected.congested:
                await self._more()
            if self.status or self._error is not None:
                return False
            self._transport.write(part)
        return True

    def _finish(self, connection: Connection) -> bool:
        """End the exchange; whether its connection can carry another one."""
        framing = self._framing
        kept = (
            framing is not None
            and self._reusable
            and framing.done
            and not framing.excess
            and self._sent
            and self._error is None
            and not connection.closing
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        )
        if self._stopped:
            self._held_size = 0
            self._read_on()
        connection.exchange = self._held = self._sink = self._flow = self._error = None
        if not kept:
            connection.close()
        return kept

    async def _connect(self) -> Connection:
        timeouts, late = self._outgoing.timeouts, UpstreamFailed(BROKEN)
        if timeouts.first_byte < timeouts.connect:
            late = UpstreamTimeout(LATE)
            late.billed = False
        by = self.begun + min(timeouts.connect, timeouts.first_byte)
        try:
            async with asyncio.timeout_at(by) as self._connecting:
                made = await self._pool.connect(self._origin)
        except TimeoutError as error:
            raise self._reason or late from error
        except (OSError, ValueError, RuntimeError) as error:  # no name, no server; uvloop's
            raise UpstreamFailed(BROKEN) from error
        finally:
            self._connecting = None
        if self._reason is not None:  # which came in the very turn of the connection
            made.close()
            raise self._reason
        return made


class _Get(DirectCall):
    """On a connection of its own, so that it says what a new one would meet."""

    __slots__ = ()

    async def head(self) -> None:
        self._origin, host, target = located(self._outgoing.url)
        lines = header_lines({"host": host, **GET_HEADERS, **self._outgoing.headers})
        self.attach(await self._connect())
        self._transport.write(b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), lines))
        self._sent = True
        while not self.status:
            await self._more()
