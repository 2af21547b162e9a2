"""A request on a connection, and its answer.

Bytes go from the socket to the sink in the reader's turn: no task, no queue. What waits is one
future, and one timer watches whichever deadline is next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Sink, Timeouts, gathered
from proxy.upstream.connection import Connection
from proxy.upstream.http1 import LARGEST_HEAD, BadAnswer, Framing, Head, can_begin, parse_head

#: Bytes that are held for who does not take them yet; the socket is not read beyond.
_HELD: Final = 64 * 1024

#: A body, as it is written: never empty, each of moderate size.
Parts = Iterator[bytes]

BROKEN: Final = "The upstream could not be reached, or broke off its answer. Try again."
LATE: Final = "The upstream did not answer in time. Try again."


class Dropped(UpstreamFailed):
    """The connection was closed before anything came back."""


class Exchange:
    """A request and its answer: a `Call`."""

    def __init__(self, connection: Connection, timeouts: Timeouts, begun: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.connection = connection
        self._transport = connection.transport
        self._idle = timeouts.idle
        self._first_by = begun + timeouts.first_byte
        self._all_by = begun + timeouts.total
        self._raw = bytearray()  # of a head that has begun
        self._head: Head | None = None
        self._framing: Framing | None = None
        self._held: deque[bytes] = deque()  # the body's, until somebody asks
        self._held_size = 0
        self._sink: Sink | None = None
        self._paused = False
        self._flushing = False
        self._stopped = False  # reading the socket
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._last = begun  # when something came
        self._timer = self._loop.call_at(min(self._first_by, self._all_by), self._late)
        self._heard = False
        self._sent = False  # all of the request
        connection.exchange = self
        connection.served += 1

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def _answer(self) -> Head:
        assert self._head is not None, "asked for before it came"
        return self._head

    @property
    def _done(self) -> bool:
        return self._framing is not None and self._framing.done

    async def send(self, head: bytes, body: Parts) -> None:
        """Write the request, as fast as the server reads it; a server that answers before it has
        read all is sent no more. Raises UpstreamFailed or UpstreamTimeout.
        """
        if self.connection.closing:
            raise Dropped(BROKEN)
        self._transport.write(head + next(body))
        for part in body:
            await asyncio.sleep(0)  # a socket that takes it all gives nobody else a turn
            while self._head is None and self.connection.congested:
                await self._more()
            if self._head is not None or self._error is not None:
                return
            self._transport.write(part)
        self._sent = True

    async def head(self) -> None:
        """Wait for the answer's head. Raises UpstreamFailed or UpstreamTimeout."""
        while self._head is None:
            await self._more()

    async def first(self) -> bytes:
        while not (self._held or self._done):
            await self._more()
        if not self._held:
            return b""
        self._first_by = self._all_by
        piece = self._take()
        self._read_on()
        return piece

    async def deliver(self, sink: Sink) -> None:
        self._sink = sink
        self._last = self._loop.time()
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

    def resume(self) -> None:
        self._paused = False
        if not self._left:
            self._last = self._loop.time()  # the client's pace was the client's deadline
            self._flush()
            self._watch()

    def abort(self, reason: GatewayError) -> None:
        if not self._left:
            self._held.clear()
            self._fail(self._error or reason)

    def leave(self) -> bool:
        """End the exchange; whether its connection can carry another one."""
        self._timer.cancel()
        framing = self._framing
        clean = self._error is None and framing is not None and framing.done and not framing.excess
        over = clean and self._sent and not self.connection.closing
        kept = over and self._answer.reusable and not self._transport.get_write_buffer_size()
        self._held.clear()
        self._held_size = 0
        self._read_on()
        self.connection.exchange = self._sink = self._error = None
        if not kept:
            self.connection.close()
        return kept

    @property
    def _left(self) -> bool:
        """Whether the connection may be another's by now."""
        return self.connection.exchange is not self

    @property
    def keep(self) -> float | None:
        return self._answer.keep

    # From the connection.

    def received(self, data: bytes) -> None:
        self._last = self._loop.time()
        if self._error is not None:
            return
        try:
            if self._framing is None:
                self._heard = True
                data = self._begin(data)
            framing = self._framing
            if data and framing is not None:
                self._body(framing.feed(data))
        except BadAnswer as error:
            self._body(error.before)
            if self._error is None:
                self._fail(UpstreamFailed(BROKEN))
        else:
            if framing is not None and framing.done:
                self.wake()

    def lost(self, *, ended: bool) -> None:
        """The connection is closed: a fault, but where that is the body's end."""
        framing = self._framing
        if ended and framing is not None and framing.ends():
            framing.done = True
            self.wake()
        elif self._error is None and not self._done:
            self._fail((UpstreamFailed if self._heard else Dropped)(BROKEN))

    def _begin(self, data: bytes) -> bytes:
        """Read on in the head; what of the body has come with it."""
        seen = max(len(self._raw) - 3, 0)
        self._raw += data
        while (end := self._raw.find(b"\r\n\r\n", seen)) >= 0:
            if end > LARGEST_HEAD:
                break
            head, framing = parse_head(bytes(self._raw[:end]))
            del self._raw[: end + 4]
            seen = 0
            if head.status >= 200:  # others come before it; 101 was not asked for
                self._head, self._framing = head, framing
                rest, self._raw = bytes(self._raw), bytearray()
                self.wake()
                return rest
            if head.status == 101:
                raise BadAnswer("another protocol")
        if len(self._raw) > LARGEST_HEAD or not can_begin(self._raw, seen):
            raise BadAnswer("no head, or one that is too large")
        return b""

    def _body(self, body: bytes) -> None:
        if not body:
            return
        if self._sink is not None and not self._paused:
            self._pass(self._sink, body)
        else:
            self._held.append(body)
            self._held_size += len(body)
            self._read_on()
            self.wake()

    def _pass(self, sink: Sink, body: bytes) -> None:
        try:
            sink(body)
        except BaseException as error:  # the receiving side's, which `deliver` raises
            self._held.clear()
            self._fail(error)

    def _flush(self) -> None:
        """Deliver what is held, as far as the sink wants it."""
        if self._flushing or self._sink is None:
            return
        self._flushing = True  # the sink itself may pause and resume
        while self._held and not self._paused:
            self._pass(self._sink, self._take())
        self._flushing = False
        self._read_on()
        if not self._held:
            self.wake()

    def _take(self) -> bytes:
        piece = self._held.popleft()
        self._held_size -= len(piece)
        return piece

    def _read_on(self) -> None:
        """Read the socket, or leave what comes in it."""
        stop = self._held_size > _HELD
        if stop is not self._stopped and not self.connection.closing:
            self._stopped = stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    async def _more(self) -> None:
        """Wait until something has changed. Raises what has gone wrong."""
        if self._error is not None:
            raise self._error
        await self._change()

    async def _change(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.connection.close()
        self.wake()

    def _due(self) -> float:
        """The next deadline; a client that is slow has one of its own."""
        if self._sink is None:
            return min(self._first_by, self._all_by)
        return self._all_by if self._paused else min(self._last + self._idle, self._all_by)

    def _watch(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_at(self._due(), self._late)

    def _late(self) -> None:
        if self._error is not None or self._done:
            return
        if self._loop.time() < self._due():
            self._watch()
        else:
            self.abort(UpstreamTimeout(LATE))
