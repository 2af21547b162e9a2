"""A load generator: keep-alive connections from bare protocols, every stream checked.

    python -m bench.load PORT PATH CONNECTIONS STREAMS CHUNKS KEY MODEL USAGE

USAGE is 1 where the answer holds the usage event, as a proxy without features passes it.

Prints one JSON object: streams done, streams wrong, seconds, and the first byte's median.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import uvloop

from bench.upstream import body


class Client(asyncio.Protocol):
    """Sends the same request again and again until the run's count is reached."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._got = bytearray()
        self._sent_at = 0.0
        self._first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.finished.is_set():
            self._run.wrong += 1
            self._run.done_one()

    def _next(self) -> None:
        if not self._run.take():
            return
        self._got.clear()
        self._first = 0.0
        self._sent_at = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        if not self._first and b"data:" in data:
            self._first = time.perf_counter() - self._sent_at
        self._got += data
        if not self._got.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {bytes(self._got)[:600]!r}")
        if self._got.endswith(b"\r\n0\r\n\r\n"):
            self._run.check(bytes(self._got), self._first)
            self._next()


class Run:
    def __init__(self, request: bytes, streams: int, expected: bytes) -> None:
        self.request = request
        self.expected = expected
        self.left = streams
        self.missing = streams
        self.wrong = 0
        self.firsts: list[float] = []
        self.finished = asyncio.Event()

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def check(self, answer: bytes, first: float) -> None:
        head, _, chunked = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200") or dechunked(chunked) != self.expected:
            self.wrong += 1
        self.firsts.append(first)
        self.done_one()

    def done_one(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            self.finished.set()


def dechunked(data: bytes) -> bytes:
    parts = []
    at = 0
    while True:
        line = data.index(b"\r\n", at)
        size = int(data[at:line], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        at = line + 4 + size


async def main(words: list[str]) -> None:
    port, path, connections, streams, chunks, key, model, usage = words
    asked = json.dumps(
        {
            "model": model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is in this image?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": "https://example.com/image.jpg"},
                        },
                    ],
                }
            ],
            "stream": True,
            "max_tokens": 1000,
        }
    ).encode()
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    ).encode() + asked
    run = Run(request, int(streams), body(int(chunks), usage=usage == "1"))
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    transports = []
    for _ in range(int(connections)):
        transport, _ = await loop.create_connection(lambda: Client(run), "127.0.0.1", int(port))
        transports.append(transport)
    await run.finished.wait()
    seconds = time.perf_counter() - began
    for transport in transports:
        transport.close()
    first = statistics.median(run.firsts) if run.firsts else 0.0
    result = {"streams": int(streams), "wrong": run.wrong, "seconds": seconds, "first": first}
    print(json.dumps(result))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
