"""What is around the gateway: an origin of images that do harm, and a provider that takes all.

    python -m tests.chaos.outside      prints its port; ends when its stdin does

`GET /NAME/anything` is an image of HARM or GOOD, `GET /taken` how many bodies the provider had,
and their bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec
import uvloop

from tests.images.samples import large_png

_PIECE: Final = 64 << 10
_HEAD: Final = (
    "HTTP/1.1 {}\r\ncontent-type: {}\r\ncache-control: no-store\r\nconnection: close\r\n{}\r\n"
)
_ANSWER: Final = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"Seen."},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}\n\ndata: [DONE]\n\n'
)
CAT: Final = large_png(1 << 20)


def _image(*headers: str, status: str = "200 OK") -> bytes:
    return _HEAD.format(status, "image/png", "".join(f"{h}\r\n" for h in headers)).encode()


async def _drip(path: str) -> AsyncIterator[bytes]:
    yield _image()
    for byte in CAT:
        yield bytes((byte,))
        await asyncio.sleep(1.0)


async def _endless(path: str) -> AsyncIterator[bytes]:
    """300 MiB."""
    yield _image("transfer-encoding: chunked")
    for _ in range(300 * 16):
        yield b"%x\r\n%b\r\n" % (_PIECE, bytes(_PIECE))


async def _bomb(path: str) -> AsyncIterator[bytes]:
    packed = gzip.compress(bytes(64 << 20))
    yield _image("content-encoding: gzip", f"content-length: {len(packed)}") + packed


async def _loop(path: str) -> AsyncIterator[bytes]:
    yield _image(f"location: {path}x", "content-length: 0", status="302 Found")


async def _cat(path: str) -> AsyncIterator[bytes]:
    yield _image(f"content-length: {len(CAT)}") + CAT


HARM: Final[dict[str, Callable[[str], AsyncIterator[bytes]]]] = {
    "drip": _drip,
    "endless": _endless,
    "bomb": _bomb,
    "loop": _loop,
}
GOOD: Final = {"cat": _cat}


class Outside:
    def __init__(self) -> None:
        self.bodies = self.bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode("latin-1").split(" ", 2)
                await (
                    self._take(head, reader, writer)
                    if method == "POST"
                    else self._give(path, writer)
                )
        writer.close()

    async def _take(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.bodies += 1
        self.bytes += left
        while left:
            left -= len(await reader.read(min(left, 1 << 20)))
        length = f"content-length: {len(_ANSWER)}\r\n"
        writer.write(_HEAD.format("200 OK", "text/event-stream", length).encode() + _ANSWER)
        raise EOFError

    async def _give(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/taken":
            writer.write(_image() + msgspec.json.encode([self.bodies, self.bytes]))
        else:
            async for data in {**HARM, **GOOD}[path.split("/")[1]](path):
                writer.write(data)
                await writer.drain()
        raise EOFError


async def main() -> None:
    os.nice(10)  # what is measured is the gateway
    server = await asyncio.start_server(Outside().serve, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
