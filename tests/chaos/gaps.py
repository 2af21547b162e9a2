"""Streams that are read while something else is done to the gateway.

python -m tests.chaos.gaps URL SECRET STREAMS
    prints a line once all are under way; when its stdin ends, the largest gap between two
    chunks of a stream, in seconds, and how many chunks there were
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import uvloop

from tests.chaos.provider import Order
from tests.chaos.traffic import chat
from tests.web.raw import chat_request

PACE: Final = 0.02  # seconds


class Stream(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.gap = 0.0
        self.chunks = 0
        self.begun = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.chunks:
            self.gap = max(self.gap, now - self._last)
        elif data[:12] != b"HTTP/1.1 200":
            self.begun.set_exception(RuntimeError(data.decode()))
            return
        else:
            self.begun.set_result(None)
        self._last = now
        self.chunks += 1

    def connection_lost(self, error: Exception | None) -> None:
        self.gap = float("inf")  # none is to end before it is told to


async def main(url: str, secret: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    host, _, port = url.removeprefix("http://").partition(":")
    streams = []
    for index in range(count):
        order = Order(f"gaps:{index}", words=16_000, pace=PACE)
        request = chat_request(secret, chat(order), connection="close")
        streams.append((await loop.create_connection(lambda: Stream(request), host, int(port)))[1])  # noqa: B023
    await asyncio.gather(*(stream.begun for stream in streams))
    sys.stdout.write("under way\n")
    sys.stdout.flush()
    for stream in streams:
        stream.gap = 0.0
    await loop.run_in_executor(None, sys.stdin.read)
    gap, chunks = max(stream.gap for stream in streams), sum(stream.chunks for stream in streams)
    sys.stdout.write(f"{gap} {chunks}\n")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
