"""An answer, as it comes on a connection: it goes to whoever takes it in the reader's own turn, or
is held until somebody does.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Transport
from collections import deque
from collections.abc import Mapping
from time import monotonic  # the loops' own clock
from types import MappingProxyType
from typing import Final

from proxy.domain.errors import UpstreamFailed
from proxy.upstream.call import Sink
from proxy.upstream.connection import Connection
from proxy.upstream.http1 import LARGEST_HEAD, BadAnswer, Framing, can_begin, parse_head

#: Bytes that are held for who does not take them yet; the socket is not read beyond.
_HELD: Final = 64 * 1024

_NONE: Final[Mapping[str, str]] = MappingProxyType({})

BROKEN: Final = "The upstream could not be reached, or broke off its answer. Try again."


class Dropped(UpstreamFailed):
    """The connection was closed before anything came back."""


class Answer:
    """What comes on a connection that it is attached to."""

    __slots__ = (
        "_error",
        "_flow",
        "_flushing",
        "_framing",
        "_heard",
        "_held",
        "_held_size",
        "_last",
        "_loop",
        "_paused",
        "_raw",
        "_reusable",
        "_sink",
        "_stopped",
        "_transport",
        "_waiter",
        "chunks",
        "connection",
        "headers",
        "keep",
        "status",
    )

    _loop: AbstractEventLoop
    _transport: Transport

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.chunks = b""
        self.status = 0  # until the head has come
        self.headers = _NONE
        self.keep: float | None = None  # seconds for which the server keeps it, if it says so
        self._reusable = False
        self._raw: bytes | bytearray = b""  # of a head that has begun
        self._framing: Framing | None = None
        # The body's, until somebody asks; None where there is nothing.
        self._held: deque[bytes] | None = None
        self._held_size = 0
        self._sink: Sink | None = None
        self._flow: Sink | None = None  # the sink, while it takes what comes
        self._paused = False
        self._flushing = False
        self._stopped = False  # reading the socket
        self._error: BaseException | None = None
        self._waiter: Future[None] | None = None
        self._heard = False

    def attach(self, connection: Connection) -> None:
        self.connection = connection
        self._transport = connection.transport
        self._loop = connection.loop

    @property
    def _done(self) -> bool:
        return self._framing is not None and self._framing.done

    @property
    def over(self) -> bool:
        framing = self._framing
        return framing is not None and framing.done and self._held is None

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
        self._last = monotonic()
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

    def lost(self, *, ended: bool) -> None:
        """The connection is closed: a fault, but where that is the body's end."""
        framing = self._framing
        if ended and framing is not None and framing.ends():
            framing.done = True
            self.wake()
        elif self._error is None and not self._done:
            self._fail((UpstreamFailed if self._heard else Dropped)(BROKEN))

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What nobody takes yet.

    def _collect(self, data: bytes) -> None:
        if self._error is not None:
            return
        try:
            framing = self._framing
            if framing is None:
                data = self._begin(data)
                framing = self._framing
                if framing is None:
                    return
            body = framing.feed(data)
        except BadAnswer as error:
            self._broken(error)
            return
        if body:
            self._body(body)
        self.wake()

    def _begin(self, data: bytes) -> bytes:
        """Read on in the head; what of the body has come with it."""
        self._heard = True
        raw: bytes | bytearray = data
        seen = 0
        if self._raw:
            seen = max(len(self._raw) - 3, 0)
            self._raw += data
            raw = self._raw
        while 0 <= (end := raw.find(b"\r\n\r\n", seen)) <= LARGEST_HEAD:
            head, framing = parse_head(raw[:end])
            raw = raw[end + 4 :]
            seen = 0
            if head.status >= 200:  # others come before it; 101 was not asked for
                self.status, self.headers = head.status, head.headers
                self._reusable, self.keep = head.reusable, head.keep
                self._framing = framing
                self._raw = b""
                return bytes(raw)
            if head.status == 101:
                raise BadAnswer("another protocol")
        if len(raw) > LARGEST_HEAD or not can_begin(raw, seen):
            raise BadAnswer("no head, or one that is too large")
        self._raw = bytearray(raw) if isinstance(raw, bytes) else raw
        return b""

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
        if stop is not self._stopped and not self._transport.is_closing():
            self._stopped = stop
            if stop:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # What has gone wrong.

    def _broken(self, error: BadAnswer) -> None:
        """What came before the fault is delivered before the fault is told."""
        if error.before:
            self._body(error.before)
        if self._error is None:
            self._fail(UpstreamFailed(BROKEN))

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._flow = None
        self._connected.close()
        self.wake()
