"""The client's side of a stream: aiohttp writes the head, we write the body's frames.

aiohttp's own body writer waits at every write and ends a broken stream cleanly, which both
SDKs take for a complete one. Here a write is a plain call, and the end is ours to write.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_LAST_CHUNK = b"0\r\n\r\n"


class _Stream(web.StreamResponse):
    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the outlet has written the end, or meant there to be none."""


class Outlet:
    """One response body, streamed."""

    def __init__(self, http: web.Request) -> None:
        self._http = http
        self._writer: AbstractStreamWriter | None = None
        # An HTTP/1.0 client knows no chunks: its body ends with the connection.
        self._chunked = http.version >= HttpVersion11
        self.response = _Stream()

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Write the head."""
        response = self.response
        response.headers.update(headers)
        response.content_type = "text/event-stream"
        response.headers["cache-control"] = "no-cache"
        response.headers["x-accel-buffering"] = "no"
        if self._chunked:
            response.enable_chunked_encoding()
        else:
            response.force_close()
        self._writer = await response.prepare(self._http)

    @property
    def congested(self) -> bool:
        """Whether the client reads more slowly than we write."""
        return self._http.protocol.writing_paused

    async def drained(self) -> None:
        """Wait until it has caught up."""
        if self._writer is not None:
            await self._writer.drain()

    def write(self, data: bytes) -> None:
        """One piece of the body; lost without a word where the client has gone."""
        transport = self._http.transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is complete."""
        transport = self._http.transport
        if self._chunked and transport is not None and not transport.is_closing():
            transport.write(_LAST_CHUNK)

    def break_off(self) -> None:
        """Close so that no client takes the body for complete."""
        transport = self._http.transport
        if transport is None:
            return
        self.response.force_close()
        if self._chunked:
            transport.close()  # what was written still goes out; the last chunk does not
            return
        # Without chunks only a reset tells this end from a good one.
        raw: socket.socket | None = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.close()
