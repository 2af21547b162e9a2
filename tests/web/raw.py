"""HTTP by hand, for what no client library would send or show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.gateway import HELLO

#: The longest that a read may wait, in seconds.
DEADLINE = 4.0


@dataclass(frozen=True)
class Answer:
    """A status line and headers (names in lower case), and the body where it has a length."""

    version: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class RawClient:
    """One connection. Reads raise TimeoutError after DEADLINE."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    async def head(self) -> Answer:
        async with asyncio.timeout(DEADLINE):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text[:-4].split("\r\n")
        version, status = first.split(" ")[:2]
        pairs = (line.split(": ", 1) for line in lines)
        return Answer(version, int(status), {name.lower(): value for name, value in pairs})

    async def answer(self) -> Answer:
        """A head, and the body that its content-length tells of."""
        head = await self.head()
        async with asyncio.timeout(DEADLINE):
            body = await self.reader.readexactly(int(head.headers["content-length"]))
        return Answer(head.version, head.status, head.headers, body)

    async def chunks(self) -> list[bytes]:
        """The chunks up to the last one. Raises IncompleteReadError where it never comes."""
        found = []
        while data := await self.chunk():
            found.append(data)
        return found

    async def chunk(self) -> bytes:
        """One chunk, b"" for the last."""
        async with asyncio.timeout(DEADLINE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    def reset(self) -> None:
        """Leave with a RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def connected(url: str, *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    """A connection to where `url` points; a small `receive_buffer` lets a server feel it soon."""
    parts = urlsplit(url)
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
    limit = 2**16 if receive_buffer is None else receive_buffer
    reader, writer = await asyncio.open_connection(sock=raw, limit=limit)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def chat_request(key: str | None, body: Any = None, *, version: str = "1.1", **more: str) -> bytes:
    """A chat request's bytes. `more` are headers, `_` for `-`; "" leaves one out."""
    data = body if isinstance(body, bytes) else json.dumps(HELLO if body is None else body).encode()
    headers = {
        "host": "gateway",
        "content-type": "application/json",
        "content-length": str(len(data)),
        **({} if key is None else {"authorization": f"Bearer {key}"}),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value]
    head = "\r\n".join([f"POST /v1/chat/completions HTTP/{version}", *lines, "", ""])
    return head.encode("latin-1") + data


def unchunked(raw: bytes) -> bytes:
    """The body of chunks to which the last one never came."""
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        assert length > 0, "the last chunk came"
        assert raw[length : length + 2] == b"\r\n"
        body += raw[:length]
        raw = raw[length + 2 :]
    return body
