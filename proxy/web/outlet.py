"""The client's side of a stream: its head, and its body's frames, as we write them.

aiohttp's own body writer waits at every write and ends a broken stream cleanly, which both
SDKs take for a complete one. Here a write is a plain call, the end is ours to write, and a head
goes out with the first bytes of its body.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time  # made once a second

from proxy.upstream.http1 import header_lines
from proxy.web.connection import Connection

_GONE = "the client has gone"


_MOMENT = 0.1  # seconds


class _Written(web.StreamResponse):
    """An answer to which aiohttp has nothing to add: all of a kind can be the same."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._eof_sent = True
        self._keep_alive = keep_alive


_KEPT = _Written(keep_alive=True)
_CLOSED = _Written(keep_alive=False)

# What `name_request` adds to the answers that aiohttp begins is here, too, but the id.
_HEAD = (
    b" 200 OK\r\nContent-Type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\nserver: visiongate\r\nDate: "
)
_CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n"

#: A head up to the date and from there on, and aiohttp's view of it: by whether the body goes out
#: in chunks, and the connection is kept.
_HEADS = {
    (True, True): (b"HTTP/1.1" + _HEAD, _CHUNKED, _KEPT),
    (True, False): (b"HTTP/1.1" + _HEAD, _CHUNKED + b"Connection: close\r\n", _CLOSED),
    (False, False): (b"HTTP/1.0" + _HEAD, b"\r\n", _CLOSED),
}


class Outlet:
    """One response, streamed. `patience`: seconds for which its client may take nothing, and that
    its end has to go out.

    Its head goes out with what is written first. With `reads_on` a client that has gone is no
    reason to stop: what is written comes to nothing, and only `end` tells. Raises ConnectionError
    where it has gone by now.
    """

    __slots__ = (
        "_head",
        "_patience",
        "_protocol",
        "_reads_on",
        "_transport",
        "_writer",
        "chunked",
        "response",
    )

    def __init__(
        self,
        http: web.Request,
        headers: Mapping[str, str],
        patience: float,
        *,
        reads_on: bool = False,
    ) -> None:
        self._protocol = protocol = http.protocol
        self._transport = transport = protocol.transport
        self._writer = http.writer
        self._patience = patience
        self._reads_on = reads_on
        if not reads_on and (transport is None or transport.is_closing()):
            raise ClientConnectionResetError(_GONE)
        # An HTTP/1.0 client knows no chunks: its body ends with the connection.
        self.chunked = chunked = http.version >= HttpVersion11
        begin, framing, self.response = _HEADS[chunked, chunked and http.keep_alive]
        date, lines = rfc822_formatted_time().encode(), header_lines(headers)
        self._head = b"%b%b%b%b\r\n" % (begin, date, framing, lines)  # until it is sent

    @property
    def idle(self) -> bool:
        """Whether the client has taken all that was written."""
        transport = self._transport
        return transport is not None and not transport.get_write_buffer_size()

    async def drained(self) -> None:
        """When the client has caught up, or gone. Raises TimeoutError where for its patience it
        takes nothing, and ConnectionError.
        """
        protocol = self._protocol
        assert isinstance(protocol, Connection)
        if protocol.transport is not None:
            await protocol.caught_up(self._patience)

    def write(self, data: bytes) -> bool:
        """One piece of the body; whether the client keeps up. Raises ConnectionError where it has
        gone.
        """
        if not data:  # whose chunk would be the last
            return self.send(b"") if self._head else True
        return self.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def end(self, data: bytes = b"") -> None:
        """The body is complete with `data`. Raises ConnectionError where the client has gone."""
        self._reads_on = False
        if self.chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self.send(data)

    def break_off(self, last: bytes) -> None:
        """Write `last` and close, so that no client takes the body for complete."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self.write(last)
        self.response = _CLOSED
        if not self.chunked:
            # Without chunks only a reset tells this end from a good one.
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if transport.get_extra_info("sslcontext") is not None:
                self._protocol._force_close = True  # by which aiohttp leaves it open
                _reset(transport, asyncio.get_running_loop().time() + self._patience)
                return
        transport.close()  # what was written still goes out; a last chunk does not
        asyncio.get_running_loop().call_later(self._patience, transport.abort)

    def send(self, frame: bytes) -> bool:
        """As `write`; where the body is `chunked`, for whole chunks."""
        if self._head:
            frame, self._head = self._head + frame, b""
            self._writer.output_size += len(frame)  # by which it is known to have begun
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(frame)
            return not self._protocol._paused  # by a method's call less than `writing_paused`
        if not self._reads_on:
            raise ClientConnectionResetError(_GONE)
        return True


def _reset(transport: asyncio.WriteTransport, until: float) -> None:
    """Once what was written is out. TLS that is closed says that all has come (RFC 8446 section
    6.1); one that is broken off does not.
    """
    loop = asyncio.get_running_loop()

    def look() -> None:
        if transport.get_write_buffer_size() and loop.time() < until:
            loop.call_later(_MOMENT, look)
        else:
            transport.abort()

    loop.call_later(_MOMENT, look)  # in which the network takes what TLS has made of it
