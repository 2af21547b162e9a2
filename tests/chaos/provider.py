"""A provider that keeps books: what it wrote for each request, and when it was left.

A request's `user` field holds its Order. `GET /records` tells the books, `POST /release` lets
the streams go on that were told to hold.

    python -m tests.chaos.provider [PORT]      prints its port; ends when its stdin does
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import msgspec
import uvloop

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"gpt-4o","choices":[%b],"usage":%b}\n\n'
)
_USAGE: Final = b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'
_WHOLE: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},'
    b'"finish_reason":"stop"}],"usage":%b}'
)
#: One token of o200k, wherever it stands.
WORD: Final = b" word"


class Order(msgspec.Struct, frozen=True):
    """What a request is answered: so many words, one each `pace` seconds after `wait`.

    `input` is what its usage claims. With `hold` the second word waits for a release.
    """

    tag: str
    words: int = 10
    pace: float = 0.0
    wait: float = 0.0
    input: int = 7
    hold: bool = False

    @property
    def user(self) -> str:
        return msgspec.json.encode(self).decode()


class Served(msgspec.Struct):
    """What was done for one request. `left_at` is on the monotonic clock that processes share."""

    tag: str
    input: int
    words: int = 0
    complete: bool = False
    left_at: float | None = None


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _choice(delta: bytes, reason: bytes = b"null") -> bytes:
    return b'{"index":0,"delta":%b,"finish_reason":%b}' % (delta, reason)


_WORD_FRAME: Final = _frame(_EVENT % (_choice(b'{"content":"%b"}' % WORD), b"null"))


def _usage(order: Order) -> bytes:
    return _USAGE % (order.input, order.words, order.input + order.words)


def _tail(order: Order) -> bytes:
    stop = _EVENT % (_choice(b"{}", b'"stop"'), b"null")
    return _frame(stop + _EVENT % (b"", _usage(order)) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Books:
    def __init__(self) -> None:
        self.served: list[Served] = []
        self.held: list[Any] = []

    def release(self) -> bytes:
        held, self.held = self.held, []
        for go_on in held:
            go_on()
        return b"{}"

    def records(self) -> bytes:
        return msgspec.json.encode(self.served)


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._buffer = bytearray()
        self._now: Served | None = None
        self._later = asyncio.get_running_loop().call_later

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        whole = end + 4 + length
        if len(self._buffer) >= whole:
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            self._answer(head.split(b" ", 2)[1], body)

    def eof_received(self) -> None:
        self._left()

    def connection_lost(self, error: Exception | None) -> None:
        self._left()

    def _left(self) -> None:
        if self._now is not None and self._now.left_at is None:
            self._now.left_at = time.monotonic()
            self._now = None

    def _answer(self, path: bytes, body: bytes) -> None:
        own = {b"/records": self._books.records, b"/release": self._books.release}.get(path)
        if own is not None:
            self._json(own())
            return
        asked = msgspec.json.decode(body)
        order = msgspec.json.decode(asked["user"], type=Order)
        served = self._now = Served(order.tag, order.input)
        self._books.served.append(served)
        begin = self._stream if asked.get("stream") else self._whole
        self._later(order.wait, begin, order, served)

    def _json(self, data: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(data) + data)

    def _whole(self, order: Order, served: Served) -> None:
        if served.left_at is None:
            self._json(_WHOLE % (WORD * order.words, _usage(order)))
            served.words, served.complete, self._now = order.words, True, None

    def _stream(self, order: Order, served: Served) -> None:
        if served.left_at is None:
            self._transport.write(HEAD)
            self._word(order, served)

    def _word(self, order: Order, served: Served) -> None:
        if served.left_at is not None:
            return
        if served.words == order.words:
            self._transport.write(_tail(order))
            served.complete, self._now = True, None
            return
        count = 1 if order.pace or (order.hold and not served.words) else order.words - served.words
        self._transport.write(_WORD_FRAME * count)
        served.words += count
        if order.hold and served.words == 1:
            self._books.held.append(lambda: self._word(order, served))
        else:
            self._later(order.pace, self._word, order, served)


async def main() -> None:
    books = Books()
    loop = asyncio.get_running_loop()
    port = int(sys.argv[1]) if sys.argv[1:] else 0
    server = await loop.create_server(lambda: Connection(books), "127.0.0.1", port, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
