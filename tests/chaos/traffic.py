"""Clients: one request each on a connection of its own, some of which leave early."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.chaos.provider import Order
from tests.web.raw import chat_request

SECONDS = 240.0
_WORD = b'"content":" word"'
_LAST_CHUNK = b"\r\n0\r\n\r\n"

#: A picture by its bytes (one pixel), and one that the provider is to fetch.
DATA_IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
LINK_IMAGE = "https://images.example.com/sunset.png"


@dataclass(frozen=True)
class Cut:
    """When a client leaves: half-way through its head, `after` seconds after its request, or
    `after` seconds after so many words; and how.
    """

    where: Literal["head", "before", "words"]
    how: Literal["close", "reset", "half-close"]
    words: int = 0
    after: float = 0.0


@dataclass
class Sent:
    """What a client saw of the worker at `url`. `ended`: complete, refused (not a 200), broken,
    cut, or nobody. `words` are all that reached it, also after it had half-closed.

    `begun` and `cut_at` are on the monotonic clock; `port` is its own end's.
    """

    order: Order
    key: str
    url: str = ""
    port: int = 0
    status: int = 0
    code: str = ""
    words: int = 0
    ended: str = "nobody"
    begun: float = 0.0
    seconds: float = 0.0
    cut_at: float = 0.0
    body: bytes = field(default=b"", repr=False)  # of what is no 200
    last: bytes = field(default=b"", repr=False)

    def saw(self, data: bytes) -> None:
        """A piece of the answer has come."""
        self.words += (self.last[-len(_WORD) + 1 :] + data).count(_WORD)
        self.last = (self.last + data)[-64:]
        if self.status != 200:
            self.body += data


def chat(order: Order, *, image: str = "", stream: bool = True) -> dict[str, Any]:
    """A request that its order fits exactly."""
    text: dict[str, Any] = {"type": "text", "text": "Say it."}
    picture = {"type": "image_url", "image_url": {"url": image}}
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": [text, picture] if image else [text]}],
        "stream": stream,
        "max_tokens": order.words,
        "user": order.user,
    }


async def ask(
    url: str,
    secret: str,
    order: Order,
    *,
    key: str = "",
    image: str = "",
    stream: bool = True,
    cut: Cut | None = None,
    first: asyncio.Event | None = None,
) -> Sent:
    """Send one request and read its answer to the end, or to where it is cut.

    `first` is set with the first byte of the answer.
    """
    sent = Sent(order, key, url, begun=time.monotonic())
    request = chat_request(secret, chat(order, image=image, stream=stream), connection="close")
    host, _, port = url.removeprefix("http://").partition(":")
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port))
            sent.port = writer.get_extra_info("sockname")[1]
            try:
                await _talk(reader, writer, request, sent, cut, first)
            finally:
                writer.transport.abort()
    except (OSError, EOFError):
        sent.ended = "broken" if sent.status else "nobody"
    finally:
        sent.seconds = time.monotonic() - sent.begun
        if first is not None:
            first.set()
    return sent


async def _talk(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
    sent: Sent,
    cut: Cut | None,
    first: asyncio.Event | None,
) -> None:
    if cut is not None and cut.where != "words":
        writer.write(request[: 60 if cut.where == "head" else None])
        await asyncio.sleep(cut.after)
        await _leave(reader, writer, sent, cut)
        return
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    sent.status = int(head.split(b" ", 2)[1])
    while data := await reader.read(65536):
        if first is not None:
            first.set()
        sent.saw(data)
        if cut is not None and sent.words >= cut.words:
            await asyncio.sleep(cut.after)
            await _leave(reader, writer, sent, cut)
            return
    sent.ended = _ending(sent, head)


def _ending(sent: Sent, head: bytes) -> str:
    if sent.status != 200:
        sent.code = str((json.loads(sent.body).get("error") or {}).get("code"))
        return "refused"
    if b"content-length" in head.lower():
        return "complete"  # aiohttp writes it whole, or not at all
    return "complete" if sent.last.endswith(b"data: [DONE]\n\n" + _LAST_CHUNK) else "broken"


async def _leave(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: Sent, cut: Cut
) -> None:
    sent.ended, sent.cut_at = "cut", time.monotonic()
    if cut.how == "reset":
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif cut.how == "half-close":
        writer.write_eof()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                sent.saw(data)
    else:
        writer.close()
