"""A small HTTP/1.1 request parser; it takes only what a correct client sends."""

from __future__ import annotations

import asyncio
import re
from typing import AnyStr, Final

from tests.scripted.steps import Recorded

MAX_HEAD: Final = 64 * 1024
MAX_BODY: Final = 64 * 1024 * 1024

# RFC 9110, 5.6.2 (token); RFC 9112, 3 (request line), 5 (header), 7.1 (chunk).
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_START = re.compile(rf"({_TOKEN}) (\S+) HTTP/1\.1")
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*(.*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")


class MalformedRequest(Exception):
    """A client wrote something that is not HTTP/1.1, or is too large."""


async def read_request(reader: asyncio.StreamReader, connection_id: int) -> Recorded:
    """Read one whole request.

    Raises MalformedRequest, or EOFError or OSError if the client leaves before its end.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1")[:-4].split("\r\n")
        first = _match(_START, start)
        headers = [(m[1], m[2]) for m in (_match(_HEADER, line) for line in lines)]
        body = await _body(reader, {name.lower(): value for name, value in headers})
    except asyncio.LimitOverrunError as error:
        raise MalformedRequest(f"a line or a head over {MAX_HEAD} bytes") from error
    return Recorded(first[1], first[2], headers, body, connection_id)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if length is not None and coding is not None:
        raise MalformedRequest("both content-length and transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise MalformedRequest(f"transfer-encoding {coding}")
    if coding is not None:
        return await _chunks(reader)
    if length is not None and not (length.isascii() and length.isdigit()):
        raise MalformedRequest(f"content-length {length!r}")
    return await reader.readexactly(_bounded(int(length or 0)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int(_match(_CHUNK, await _line(reader))[1], 16):
        _bounded(len(body) + size)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise MalformedRequest("a chunk that does not end where it said")
    while await _line(reader):
        pass  # trailers
    return bytes(body)


async def _line(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n"))[:-2]


def _bounded(size: int) -> int:
    if size > MAX_BODY:
        raise MalformedRequest(f"a body over {MAX_BODY} bytes")
    return size


def _match(pattern: re.Pattern[AnyStr], text: AnyStr) -> re.Match[AnyStr]:
    match = pattern.fullmatch(text)
    if match is None:
        raise MalformedRequest(repr(text))
    return match
