"""An answer, as it comes on a connection.

Bytes go from the socket to the sink in the reader's turn: no task, no queue. What nobody takes is
held. What waits is one future, and one timer watches whichever deadline is next.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Transport
from collections import deque
from collections.abc import Awaitable, Mapping
from time import monotonic  # the loops' own clock
from typing import Final

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import BROKEN, LATE, Sink, Timeouts, gathered
from proxy.upstream.connection import Connection
from proxy.upstream.framing import BadAnswer, Framing
from proxy.upstream.http1 import read_head

#: Bytes that are held for who does not take them yet; the socket is not read beyond.
_HELD: Final = 64 * 1024


class Dropped(UpstreamFailed):
    """The connection was closed before anything came back."""


class Answer:
    """What comes on a connection that it is attached to."""

    __slots__ = (
        "_all_by",
        "_answering",
        "_error",
        "_first_by",
        "_flow",
        "_flushing",
        "_framing",
        "_held",
        "_held_size",
        "_idle",
        "_keep",
        "_loop",
        "_paused",
        "_raw",
        "_reusable",
        "_sink",
        "_stopped",
        "_transport",
        "_waiter",
        "begun",
        "chunks",
        "connection",
        "headers",
        "heard",
        "status",
    )

    _loop: AbstractEventLoop
    _transport: Transport

    def __init__(self, timeouts: Timeouts) -> None:
        self.connection: Connection | None = None
        self.chunks = b""
        self.status = 0  # until the head has come
        self.headers: Mapping[str, str] = {}
        self._raw: bytes | bytearray = b""  # of a head that has begun
        self._reusable = False  # the connection, by what the server says of it
        self._keep: float | None = None  # and for how many seconds
        self._framing: Framing | None = None
        self._held: deque[bytes] | None = None  # of the body; empty ones are large
        self._held_size = 0
        self._sink: Sink | None = None
        self._flow: Sink | None = None  # the sink, while it takes what comes
        self._paused = False
        self._flushing = False
        self._stopped = False  # reading the socket
        self._error: BaseException | None = None
        self._waiter: Future[None] | None = None
        self._answering = False  # something has come
        self.begun = self.heard = begun = monotonic()
        self._idle = timeouts.idle
        self._all_by = begun + timeouts.total
        self._first_by = min(begun + timeouts.first_byte, self._all_by)

    def attach(self, connection: Connection) -> None:
        self.connection = connection
        self._transport = connection.transport
        self._loop = connection.loop
        connection.exchange = self
        connection.served += 1
        connection.watch(self._first_by)

    @property
    def _done(self) -> bool:
        return self._framing is not None and self._framing.done

    @property
    def over(self) -> bool:
        return self._done and self._held is None

    async def first(self) -> bytes:
        while not (self._held or self._done):
            await self._more()
        if not self._held:
            return b""
        self._first_by = self._all_by
        return self._take(self._held)

    async def more(self) -> bytes:
        self._first_by = min(monotonic() + self._idle, self._all_by)
        self._watch()
        return await self.first()

    async def deliver(self, sink: Sink) -> None:
        self._sink = sink
        self._flow = self._open_to()
        self.heard = monotonic()
        self._flush()
        self._watch()
        while self._held or not (self._done or self._error):
            await self._change()
        if self._error is not None:
            raise self._error

    def _open_to(self) -> Sink | None:
        """Who takes what comes, as it comes."""
        return None if self._paused or self._error is not None else self._sink

    async def read(self, limit: int) -> bytes:
        return await gathered(self.deliver, limit)

    def pause(self) -> None:
        self._paused = True
        self._flow = None

    def resume(self) -> None:
        self._paused = False
        if not self._left:
            self._flow = self._open_to()
            self.heard = monotonic()  # the client's pace was the client's deadline
            self._flush()
            self._watch()

    def abort(self, reason: GatewayError) -> None:
        if not self._left:
            self._held = None
            self._fail(self._error or reason)

    @property
    def _left(self) -> bool:
        """Whether the connection may be another's by now."""
        return self.connection is None or self.connection.exchange is not self

    @property
    def _connected(self) -> Connection:
        assert self.connection is not None, "used before it was attached"
        return self.connection

    # From the connection.

    def received(self, data: bytes) -> None:
        framing, flow = self._framing, self._flow
        if framing is None or flow is None:
            self._collect(data)
            return
        self.heard = monotonic()
        try:
            body = framing.feed(data)
            if framing.whole:
                self.chunks = data
                flow(body)
                return  # for more is to come
            if body:
                self.chunks = b""
                flow(body)
        except BadAnswer as error:
            self._broken(error)
        except BaseException as error:  # the receiving side's, which `deliver` raises
            self._fail(error)
        if framing.done:
            self.wake()

    def lost(self, *, ended: bool) -> None:
        """The connection is closed: a fault, but where that is the body's end."""
        framing = self._framing
        if ended and framing is not None and framing.ends():
            framing.done = True
            self.wake()
        elif self._error is None and not self._done:
            self._fail((UpstreamFailed if self._answering else Dropped)(BROKEN))

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def late(self) -> None:
        if self._error is not None or self._done:
            return
        if monotonic() < self._due():
            self._watch()
        else:
            self.abort(UpstreamTimeout(LATE))

    # What nobody takes yet.

    def _collect(self, data: bytes) -> None:
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

    def _begin(self, data: bytes) -> bytes:
        """Read on in the head; what of the body has come with it."""
        self._answering = True
        seen = 0
        if self._raw:
            seen = max(len(self._raw) - 3, 0)
            self._raw += data
        head, rest = read_head(self._raw or data, seen)
        if head is None:
            self._raw = bytearray(rest) if isinstance(rest, bytes) else rest
            return b""
        self.status, self.headers, self._framing = head.status, head.headers, head.framing
        self._reusable, self._keep = head.reusable, head.keep
        self._raw = b""
        return bytes(rest)

    def _body(self, body: bytes) -> None:
        if self._sink is not None and not self._paused:
            try:
                self.chunks = b""
                self._sink(body)
            except BaseException as error:
                self._held = None
                self._fail(error)
            return
        if self._held is None:
            self._held = deque()
        self._held.append(body)
        self._held_size += len(body)
        if self._held_size > _HELD:
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
        if self._stopped:
            self._read_on()
        return piece

    def _read_on(self) -> None:
        """Read the socket, or leave what comes in it."""
        stop = self._held_size > _HELD
        closing = self._connected.closing or self._transport.is_closing()
        if stop is not self._stopped and not closing:
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
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _due(self) -> float:
        """The next deadline; a client that is slow has one of its own."""
        if self._sink is None:
            return self._first_by
        return self._all_by if self._paused else min(self.heard + self._idle, self._all_by)

    def _watch(self) -> None:
        self._connected.watch(self._due())

    def _broken(self, error: BadAnswer) -> None:
        """What came before the fault is delivered before the fault is told."""
        if error.before:
            self._body(error.before)
        if self._error is None:
            failure = UpstreamFailed(BROKEN)
            failure.__cause__ = error
            self._fail(failure)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._flow = None
        self._connected.close()
        self.wake()
