"""A request on a connection, and its answer.

Bytes go from the socket to the sink in the reader's turn: no task, no queue. What waits is one
future, and one timer watches whichever deadline is next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterator, Mapping
from time import monotonic  # the loops' own clock
from types import MappingProxyType
from typing import Final

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import PART, Outgoing, Sink, Timeouts, gathered
from proxy.upstream.connection import Connection
from proxy.upstream.http1 import LARGEST_HEAD, BadAnswer, Framing, can_begin, parse_head

#: Bytes that are held for who does not take them yet; the socket is not read beyond.
_HELD: Final = 64 * 1024

_NONE: Final[Mapping[str, str]] = MappingProxyType({})

BROKEN: Final = "The upstream could not be reached, or broke off its answer. Try again."
LATE: Final = "The upstream did not answer in time. Try again."


class Dropped(UpstreamFailed):
    """The connection was closed before anything came back."""


class Exchange:
    """A request and its answer, on a connection that it is attached to."""

    __slots__ = (
        "_all_by",
        "_error",
        "_first_by",
        "_flow",
        "_flushing",
        "_framing",
        "_heard",
        "_held",
        "_held_size",
        "_idle",
        "_last",
        "_loop",
        "_paused",
        "_raw",
        "_reusable",
        "_sent",
        "_sink",
        "_stopped",
        "_transport",
        "_waiter",
        "begun",
        "chunks",
        "connection",
        "headers",
        "keep",
        "status",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self.connection: Connection | None = None
        self.chunks = b""
        self.status = 0  # until the head has come
        self.headers: Mapping[str, str] = _NONE
        self.keep: float | None = None  # seconds for which the server keeps it, if it says so
        self._reusable = False
        self._raw: bytes | bytearray = b""  # of a head that has begun
        self._framing: Framing | None = None
        # The body's, until somebody asks; empty ones are large.
        self._held: deque[bytes] | None = None
        self._held_size = 0
        self._sink: Sink | None = None
        self._flow: Sink | None = None  # the sink, while it takes what comes
        self._paused = False
        self._flushing = False
        self._stopped = False  # reading the socket
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard = False
        self._sent = False  # all of the request
        self._loop = asyncio.get_running_loop()
        self.begun = self._last = monotonic()  # the last: when something came
        self._idle = timeouts.idle
        self._all_by = self.begun + timeouts.total
        self._first_by = min(self.begun + timeouts.first_byte, self._all_by)

    def attach(self, connection: Connection) -> None:
        self.connection = connection
        self._transport = connection.transport
        connection.exchange = self
        connection.served += 1
        connection.watch(self._first_by)

    @property
    def _done(self) -> bool:
        return self._framing is not None and self._framing.done

    @property
    def over(self) -> bool:
        return self._done and not self._held

    async def ask(self, head: bytes, outgoing: Outgoing) -> None:
        """Write the request and wait for the answer's head. Raises UpstreamFailed or
        UpstreamTimeout.
        """
        if outgoing.size <= PART:
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

    def finish(self) -> bool:
        """End the exchange; whether its connection can carry another one."""
        framing, connection = self._framing, self._connected
        clean = self._error is None and framing is not None and framing.done and not framing.excess
        over = clean and self._sent and self._reusable and not connection.closing
        kept = over and not self._transport.get_write_buffer_size()
        self._held = None
        self._held_size = 0
        self._read_on()
        connection.exchange = self._sink = self._flow = self._error = None
        if not kept:
            connection.close()
        return kept

    @property
    def _connected(self) -> Connection:
        assert self.connection is not None, "used before it was attached"
        return self.connection

    @property
    def _left(self) -> bool:
        """Whether the connection may be another's by now."""
        return self.connection is None or self.connection.exchange is not self

    # From the connection.

    def received(self, data: bytes) -> None:
        self._last = monotonic()
        framing, flow = self._framing, self._flow
        if framing is None or flow is None:
            self._collect(data)
            return
        try:
            if body := framing.feed(data):
                self.chunks = data if framing.whole else b""
                flow(body)
        except BadAnswer as error:
            self._broken(error)
        except BaseException as error:  # the receiving side's, which `deliver` raises
            self._fail(error)
        if framing.done:
            self.wake()

    def _collect(self, data: bytes) -> None:
        """Read what nobody takes yet."""
        if self._error is not None:
            return
        try:
            if self._framing is None:
                data = self._begin(data)
            if self._framing is None:
                return
            body = self._framing.feed(data)
        except BadAnswer as error:
            self._broken(error)
            return
        if body:
            self._body(body)
        self.wake()

    def _broken(self, error: BadAnswer) -> None:
        """What came before the fault is delivered before the fault is told."""
        if error.before:
            self._body(error.before)
        if self._error is None:
            self._fail(UpstreamFailed(BROKEN))

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
        self._heard = True
        seen = max(len(self._raw) - 3, 0)
        raw: bytes | bytearray = data
        if self._raw:
            self._raw += data
            raw = self._raw
        while (end := raw.find(b"\r\n\r\n", seen)) >= 0:
            if end > LARGEST_HEAD:
                break
            head, framing = parse_head(bytes(raw[:end]))
            raw = raw[end + 4 :]
            seen = 0
            if head.status >= 200:  # others come before it; 101 was not asked for
                self.status, self.headers, self._reusable, self.keep = head
                self._framing = framing
                self._raw = b""
                return bytes(raw)
            if head.status == 101:
                raise BadAnswer("another protocol")
        if len(raw) > LARGEST_HEAD or not can_begin(raw, seen):
            raise BadAnswer("no head, or one that is too large")
        self._raw = bytearray(raw) if raw is data else raw
        return b""

    def _body(self, body: bytes) -> None:
        if self._sink is not None and not self._paused:
            try:
                self.chunks = b""
                self._sink(body)
            except BaseException as error:
                self._held = None
                self._fail(error)
        else:
            if self._held is None:
                self._held = deque()
            self._held.append(body)
            self._held_size += len(body)
            self._read_on()

    def _flush(self) -> None:
        """Deliver what is held, as far as the sink wants it."""
        if self._flushing or self._sink is None:
            return
        self._flushing = True  # the sink itself may pause and resume
        while self._held and not self._paused:
            self._body(self._take(self._held))
        self._flushing = False
        if not self._held:
            self.wake()

    def _take(self, held: deque[bytes]) -> bytes:
        piece = held.popleft()
        self._held_size -= len(piece)
        if not held:
            self._held = None
        self._read_on()
        return piece

    def _read_on(self) -> None:
        """Read the socket, or leave what comes in it."""
        stop = self._held_size > _HELD
        if stop is not self._stopped and not self._connected.closing:
            self._stopped = stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _more(self) -> Awaitable[None]:
        """When something has changed. Raises what has gone wrong."""
        if self._error is not None:
            raise self._error
        return self._change()

    def _change(self) -> Awaitable[None]:
        self._waiter = self._loop.create_future()
        return self._waiter

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._flow = None
        self._connected.close()
        self.wake()

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
