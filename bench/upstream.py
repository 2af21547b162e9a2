"""A provider that costs next to nothing: canned streams from a bare protocol.

The base URL says what is answered: `/<chunks>/<pace in ms>/v1/chat/completions`.

    python -m bench.upstream PORT
"""

from __future__ import annotations

import asyncio
import sys
from functools import lru_cache
from typing import Any

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_CHUNK = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}],'
    b'"usage":null}\n\n'
)
_STOP = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":null}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":%d,'
    b'"total_tokens":%d}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def body(chunks: int, *, usage: bool = False) -> bytes:
    """The answer's body; a client that asked for no usage gets none."""
    words = b"".join(_CHUNK % word for word in _words(chunks))
    return words + (_tail(chunks) if usage else _STOP + DONE)


def _tail(chunks: int) -> bytes:
    return _STOP + _USAGE % (chunks, chunks + 20) + DONE


def _words(chunks: int) -> list[bytes]:
    return [b" word%d" % number for number in range(chunks)]


@lru_cache
def frames(chunks: int) -> tuple[bytes, ...]:
    """HTTP chunks as they are sent: one a word, then the end with the usage."""
    words = (_frame(_CHUNK % word) for word in _words(chunks))
    return (*words, _frame(_tail(chunks)) + b"0\r\n\r\n")


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Mock(asyncio.Protocol):
    """One connection, kept alive, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wanted = 0
        self._plan = (1, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._wanted and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            _, chunks, pace, *_ = head.split(b" ", 2)[1].split(b"/")
            self._plan = int(chunks), int(pace)
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = end + 4 + int(length)
        if self._wanted and len(self._buffer) >= self._wanted:
            del self._buffer[: self._wanted]
            self._wanted = 0
            self._answer()

    def _answer(self) -> None:
        chunks, pace = self._plan
        if pace:
            self._transport.write(HEAD)
            self._pace(frames(chunks), 0, pace / 1000)
        else:
            self._transport.write(HEAD + b"".join(frames(chunks)))

    def _pace(self, planned: tuple[bytes, ...], number: int, pace: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(planned[number])
        if number + 1 < len(planned):
            asyncio.get_running_loop().call_later(pace, self._pace, planned, number + 1, pace)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
