"""Requests with images, all at once.

python -m tests.chaos.flood URL SECRET < Flood as JSON
    prints the count of each status
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import sys
from collections import Counter

import msgspec
import uvloop

from tests.images.samples import large_png
from tests.web.raw import chat_request

MODEL = "gpt-4-vision-preview"


class Flood(msgspec.Struct, frozen=True):
    """A request for each list of links; or `count` with one image in a body of `size` bytes."""

    links: list[list[str]] = []
    count: int = 0
    size: int = 0


def body_of(urls: list[str]) -> dict[str, object]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": parts}]
    return {"model": MODEL, "messages": messages, "stream": True, "max_tokens": 10}


def data_uri(size: int) -> str:
    return "data:image/png;base64," + base64.b64encode(large_png(size // 4 * 3)).decode()


async def ask(address: tuple[str, int], request: bytes) -> int:
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, address)
        with contextlib.suppress(OSError):  # what was answered before its end is read all the same
            await loop.sock_sendall(connection, request)  # without a copy of it
        answer = b""
        while data := await loop.sock_recv(connection, 1 << 16):
            answer += data
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def main(url: str, secret: str) -> None:
    os.nice(10)  # what is measured is the gateway
    flood = msgspec.json.decode(sys.stdin.buffer.read(), type=Flood)
    host, _, port = url.removeprefix("http://").partition(":")
    asked = [chat_request(secret, body_of(urls), connection="close") for urls in flood.links]
    if flood.count:
        large = chat_request(secret, body_of([data_uri(flood.size)]), connection="close")
        asked += [large] * flood.count
    found = await asyncio.gather(*(ask((host, int(port)), request) for request in asked))
    sys.stdout.write(msgspec.json.encode({str(k): v for k, v in Counter(found).items()}).decode())


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
