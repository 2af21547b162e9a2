"""A provider that costs next to nothing: canned streams from a bare protocol.

The base URL says what is answered: `/<chunks>/<pace in ms>/v1/chat/completions`; with 0 chunks
that is one JSON object. Prints its port, and a second one where it has a certificate for TLS.

    python -m bench.upstream [CERTIFICATE KEY]
"""

from __future__ import annotations

import asyncio
import ssl
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
_WHOLE = (
    b'{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"gpt-4o",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":" word0"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":1,'
    b'"total_tokens":21}}'
)


def body(chunks: int, *, usage: bool = False) -> bytes:
    """The answer's body; a client that asked for no usage gets none."""
    if not chunks:
        return _WHOLE
    events = b"".join(_CHUNK % word for word in words(chunks))
    return events + (_tail(chunks) if usage else _STOP + DONE)


def words(chunks: int) -> list[bytes]:
    """The words of an answer, one an event."""
    return [b" word%d" % number for number in range(chunks)]


def _tail(chunks: int) -> bytes:
    return _STOP + _USAGE % (chunks, chunks + 20) + DONE


@lru_cache
def frames(chunks: int) -> tuple[bytes, ...]:
    """What is written at a time: the head with the first word, a word each, the end."""
    if not chunks:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        return (head % len(_WHOLE) + _WHOLE,)
    first, *others = (_frame(_CHUNK % word) for word in words(chunks))
    return (HEAD + first, *others, _frame(_tail(chunks)) + b"0\r\n\r\n")


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Mock(asyncio.Protocol):
    """One connection, kept alive, one request at a time."""

    def __init__(self) -> None:
        self._head = b""
        self._missing = 0
        self._plan = (1, 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, length = self._head[:end].lower(), len(self._head)
            self._head = b""
            _, chunks, pace, *_ = head.split(b" ", 2)[1].split(b"/")
            self._plan = int(chunks), int(pace)
            _, found, after = head.partition(b"content-length:")
            if not found:
                self._refuse()
                return
            self._missing = end + 4 + int(after.partition(b"\r\n")[0]) - length
        if self._missing == 0:
            self._answer()
        elif self._missing < 0:
            self._refuse()

    def _refuse(self) -> None:
        """What a mock cannot do fails the run, by a status that is no 200."""
        self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        self._transport.close()

    def _answer(self) -> None:
        chunks, pace = self._plan
        if pace:
            self._pace(frames(chunks), 0, pace / 1000)
        else:
            self._transport.write(b"".join(frames(chunks)))

    def _pace(self, planned: tuple[bytes, ...], number: int, pace: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(planned[number])
        if number + 1 < len(planned):
            asyncio.get_running_loop().call_later(pace, self._pace, planned, number + 1, pace)


async def main(certificate: list[str]) -> None:
    loop = asyncio.get_running_loop()
    secures: list[ssl.SSLContext | None] = [None]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        secures.append(context)
    servers = [
        await loop.create_server(Mock, "127.0.0.1", 0, ssl=secure, backlog=4096)
        for secure in secures
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
