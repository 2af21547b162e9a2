"""The heads of HTTP/1.1 as a client writes and reads them, sans I/O.

Strict where a lenient reading could take one answer for two, or half of one for the whole:
RFC 9112 is cited beside each rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from proxy.upstream.framing import NAME, BadAnswer, Chunked, Framing, Sized, UntilClose

LARGEST_HEAD: Final = 64 * 1024
_TEXT: Final = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))  # of a head, in its lines
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")  # 4
_NAME = re.compile(NAME)  # a line that begins with a space (5.2) has none
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(r"[0-9]{1,15}(?:[ \t]*,[ \t]*[0-9]{1,15})*")
_SENDABLE: Final = bytes((0x09, *range(0x20, 0x7F)))


class Head(msgspec.Struct):
    """An answer's head; the names of headers are in lower case, those that repeat are joined.

    `reusable`: the server keeps the connection. `keep`: for how many seconds, where it says so.
    """

    status: int
    headers: Mapping[str, str]
    framing: Framing
    reusable: bool
    keep: float | None


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Headers, each with its line end. Raises ValueError for one that cannot be sent."""
    text = "\r\n".join([*map(": ".join, headers.items()), ""])
    lines = text.encode() if text.isascii() else b""
    if lines.translate(None, _SENDABLE) != b"\r\n" * len(headers):
        raise ValueError("a header with a character that HTTP does not carry")
    return lines


def read_head(data: bytes | bytearray, seen: int) -> tuple[Head | None, bytes | bytearray]:
    """An answer's head, and what follows it; None, and what is to be read on with, where it is not
    whole. Bytes before `seen` have been looked at. Raises BadAnswer.
    """
    while 0 <= (end := data.find(b"\r\n\r\n", seen)) <= LARGEST_HEAD:
        head = parse_head(data[:end])
        data = data[end + 4 :]
        seen = 0
        if head.status >= 200:  # others come before it; 101 was not asked for
            return head, data
        if head.status == 101:
            raise BadAnswer("another protocol")
    if len(data) > LARGEST_HEAD or not can_begin(data, seen):
        raise BadAnswer("no head, or one that is too large")
    return None, data


def parse_head(data: bytes | bytearray) -> Head:
    """A head, without the empty line that ends it. Raises BadAnswer."""
    first, *lines = data.decode("latin-1").split("\r\n")
    if data.translate(None, _TEXT) != b"\r\n" * len(lines):
        raise BadAnswer("a malformed head")
    status, modern = _status(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadAnswer("a malformed head")
        name, value = _name(name), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    framing = _framing(status, headers, modern)
    closes = "connection" in headers and "close" in headers["connection"].lower()
    reusable = modern and not closes and type(framing) is not UntilClose
    keep = _keep(headers["keep-alive"]) if "keep-alive" in headers else None
    return Head(status, headers, framing, reusable, keep)


# Servers say the same again and again: how an answer begins, and the names of its headers.


@lru_cache(64)
def _status(line: str) -> tuple[int, bool]:
    """The status, and whether the server speaks HTTP/1.1. Raises BadAnswer."""
    read = _STATUS.fullmatch(line)
    if read is None:
        raise BadAnswer("a malformed head")
    return int(read[2]), read[1] == "1"


@lru_cache(256)
def _name(name: str) -> str:
    """A header's name in lower case. Raises BadAnswer for what is none."""
    if not _NAME.fullmatch(name):
        raise BadAnswer("a malformed head")
    return name.lower()


def can_begin(data: bytes | bytearray, seen: int) -> bool:
    """Whether this may become a head; bytes before `seen` have been looked at."""
    return b"HTTP/1.".startswith(data[:7]) and _BARE_LF.search(data, seen) is None


def _framing(status: int, headers: Mapping[str, str], modern: bool) -> Framing:
    """RFC 9112, 6.3."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if status < 200 or status in (204, 304):
        return Sized(0)
    if coding is not None:
        # Two lengths, or a coding that we did not ask for: a server, or somebody on the way, lies.
        if length is not None or not modern or coding.lower() != "chunked":
            raise BadAnswer("a body of unknown length")
        return Chunked()
    if length is None:
        return UntilClose()
    values = set(re.split(r"[ \t]*,[ \t]*", length)) if _LENGTH.fullmatch(length) else set()
    if len(values) != 1:
        raise BadAnswer("a malformed content-length")
    return Sized(int(values.pop()))


def _keep(hint: str) -> float | None:
    found = re.search(r"\btimeout=([0-9]{1,6})\b", hint)
    return None if found is None else float(found[1])
