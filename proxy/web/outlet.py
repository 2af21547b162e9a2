"""The client's side of a stream: aiohttp writes the head, we write the body's frames.

aiohttp's own body writer waits at every write and ends a broken stream cleanly, which both
SDKs take for a complete one. Here a write is a plain call, and the end is ours to write.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_LAST_CHUNK = b"0\r\n\r\n"


class _Stream(web.StreamResponse):
    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the outlet has written the end, or meant there to be none."""


class Outlet:
    """One response body, streamed. `patience`: seconds that what was written has to go out.

    With `reads_on` a client that has gone is no reason to stop: what is written comes to nothing,
    and only `end` tells.
    """

    def __init__(self, http: web.Request, patience: float, *, reads_on: bool = False) -> None:
        self._http = http
        self._protocol = http.protocol
        self._patience = patience
        self._reads_on = reads_on
        self._writer: AbstractStreamWriter | None = None
        # An HTTP/1.0 client knows no chunks: its body ends with the connection.
        self._chunked = http.version >= HttpVersion11
        self.response = _Stream()

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Write the head. Raises ConnectionError where the client has gone."""
        response = self.response
        response.headers.update(headers)
        response.content_type = "text/event-stream"
        response.headers["cache-control"] = "no-cache"
        response.headers["x-accel-buffering"] = "no"
        if self._chunked:
            response.enable_chunked_encoding()
        else:
            response.force_close()
        try:
            self._writer = await response.prepare(self._http)
        except ConnectionError:
            if not self._reads_on:
                raise

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        transport = self._protocol.transport
        return transport is None or transport.is_closing()

    @property
    def congested(self) -> bool:
        """Whether the client reads more slowly than we write."""
        return self._protocol.writing_paused and not self.gone

    async def drained(self) -> None:
        """Wait until it has caught up, or gone."""
        if self._writer is not None:
            await self._writer.drain()

    def write(self, data: bytes) -> None:
        """One piece of the body. Raises ConnectionError where the client has gone."""
        if self._reads_on and self.gone:
            return
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is complete. Raises ConnectionError where the client has gone."""
        self._send(_LAST_CHUNK if self._chunked else b"")

    def break_off(self, last: bytes) -> None:
        """Write `last` and close, so that no client takes the body for complete."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            return
        if last:
            self.write(last)
        self.response.force_close()
        if not self._chunked:
            # Without chunks only a reset tells this end from a good one.
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.close()  # what was written still goes out; a last chunk does not
        asyncio.get_running_loop().call_later(self._patience, transport.abort)

    def _send(self, frame: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has gone")
        transport.write(frame)
