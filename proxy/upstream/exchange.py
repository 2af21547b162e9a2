"""A request on a connection, and its answer.

Bytes go from the socket to the sink in the reader's turn: no task, no queue. What waits is one
future, and one timer watches whichever deadline is next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from time import monotonic  # the loops' own clock
from typing import Final

from proxy.domain.errors import GatewayError, UpstreamTimeout
from proxy.upstream.answer import Answer
from proxy.upstream.call import PART, Outgoing, Sink, Timeouts, gathered
from proxy.upstream.connection import Connection

LATE: Final = "The upstream did not answer in time. Try again."


class Exchange(Answer):
    """A request and its answer, on a connection that it is attached to."""

    __slots__ = ("_all_by", "_first_by", "_idle", "_sent", "begun")

    def __init__(self, timeouts: Timeouts) -> None:
        Answer.__init__(self)
        self._sent = False  # all of the request
        self.begun = self._last = begun = monotonic()  # the last: when something came
        self._idle = timeouts.idle
        self._all_by = begun + timeouts.total
        self._first_by = min(begun + timeouts.first_byte, self._all_by)

    def attach(self, connection: Connection) -> None:
        Answer.attach(self, connection)
        connection.exchange = self
        connection.served += 1
        connection.watch(self._first_by)

    async def ask(self, head: bytes, size: int, outgoing: Outgoing) -> None:
        """Write the request, whose body has `size` bytes, and wait for the answer's head. Raises
        UpstreamFailed or UpstreamTimeout.
        """
        if size <= PART:
            self._transport.write(b"".join((head, *outgoing.body)))
            self._sent = True
        else:
            parts = outgoing.parts()
            self._transport.write(head + next(parts))
            self._sent = await self._send(parts)
        while not self.status:
            await self._more()

    async def _send(self, parts: Iterator[bytes]) -> bool:
        """The rest of a body, as fast as the server reads it; one that answers before it has read
        all is sent no more. Whether all was sent.
        """
        for part in parts:
            await asyncio.sleep(0)  # a socket that takes it all gives nobody else a turn
            while not self.status and self._connected.congested:
                await self._more()
            if self.status or self._error is not None:
                return False
            self._transport.write(part)
        return True

    async def first(self) -> bytes:
        while not (self._held or self._done):
            await self._more()
        if not self._held:
            return b""
        self._first_by = self._all_by
        return self._take(self._held)

    async def deliver(self, sink: Sink) -> None:
        self._sink = sink
        self._flow = None if self._paused else sink
        self._last = monotonic()
        self._flush()
        self._watch()
        while self._held or not (self._done or self._error):
            await self._change()
        if self._error is not None:
            raise self._error

    async def read(self, limit: int) -> bytes:
        return await gathered(self.deliver, limit)

    def pause(self) -> None:
        self._paused = True
        self._flow = None

    def resume(self) -> None:
        self._paused = False
        if not self._left:
            self._flow = self._sink if self._error is None else None
            self._last = monotonic()  # the client's pace was the client's deadline
            self._flush()
            self._watch()

    def abort(self, reason: GatewayError) -> None:
        if not self._left:
            self._held = None
            self._fail(self._error or reason)

    def finish(self, connection: Connection) -> bool:
        """End the exchange; whether its connection can carry another one."""
        framing = self._framing
        kept = (
            framing is not None
            and framing.done
            and not framing.excess
            and self._reusable
            and self._sent
            and self._error is None
            and not connection.closing
            and not self._transport.get_write_buffer_size()
        )
        if self._stopped:
            self._held_size = 0
            self._read_on()
        connection.exchange = self._held = self._sink = self._flow = self._error = None
        if not kept:
            connection.close()
        return kept

    @property
    def _left(self) -> bool:
        """Whether the connection may be another's by now."""
        return self.connection is None or self.connection.exchange is not self

    def _more(self) -> Awaitable[None]:
        """When something has changed. Raises what has gone wrong."""
        if self._error is not None:
            raise self._error
        return self._change()

    def _change(self) -> Awaitable[None]:
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _due(self) -> float:
        """The next deadline; a client that is slow has one of its own."""
        if self._sink is None:
            return self._first_by
        return self._all_by if self._paused else min(self._last + self._idle, self._all_by)

    def _watch(self) -> None:
        self._connected.watch(self._due())

    def late(self) -> None:
        if self._error is not None or self._done:
            return
        if monotonic() < self._due():
            self._watch()
        else:
            self.abort(UpstreamTimeout(LATE))
