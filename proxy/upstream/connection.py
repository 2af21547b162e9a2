"""One connection to a provider, whatever is asked on it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast


class Exchange(Protocol):
    """Whoever the bytes are for."""

    def received(self, data: bytes) -> None: ...

    def lost(self, *, ended: bool) -> None:
        """No more will come; `ended`: the server has said so."""

    def wake(self) -> None:
        """The server reads again."""

    def late(self) -> None:
        """A deadline may have passed."""


class Connection(asyncio.Protocol):
    """A connection that is kept. Between exchanges nothing may come on it.

    `open` are those that are open, itself among them.
    """

    __slots__ = (
        "_closed",
        "_open",
        "_rings",
        "_timer",
        "closing",
        "congested",
        "exchange",
        "expires",
        "loop",
        "served",
        "transport",
    )

    def __init__(self, open: set[Connection], loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._open = open
        self._closed = False
        self.closing = False  # or closed, by either side; a transport that broke may know before
        self.exchange: Exchange | None = None
        self.served = 0  # requests
        self.expires = 0.0  # when to close it, while nobody uses it
        self.congested = False  # the server reads more slowly than we write
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()  # an answer to no request
        else:
            exchange.received(data)

    def eof_received(self) -> None:
        self.closing = True  # as the transport does when this returns
        if self.exchange is not None:
            self.exchange.lost(ended=self._ended_well())

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = self.closing = True
        self._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.exchange is not None:
            self.exchange.lost(ended=False)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        if self.exchange is not None:
            self.exchange.wake()

    def watch(self, due: float) -> None:
        """Call the exchange's `late` at `due`, or before: a timer that is set is left as it is, so
        that most exchanges need none of their own.
        """
        if self._timer is not None:
            if self._rings <= due:
                return
            self._timer.cancel()
        self._rings = due
        self._timer = self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self.exchange is not None:
            self.exchange.late()

    def close(self) -> None:
        """Close it at once; but in a turn of its own: asyncio's TLS, while it reads, is not
        prepared for it.
        """
        if not self._closed:
            self._closed = self.closing = True
            self.loop.call_soon(self.transport.abort)

    def _ended_well(self) -> bool:
        """Over TLS, an end without an alert may be a cut by anybody (RFC 9112, 9.8)."""
        made: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        try:
            return made is None or not made.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False
