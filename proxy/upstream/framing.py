"""How the bodies of HTTP/1.1 answers are told from what follows them, sans I/O.

RFC 9112 is cited beside each rule.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol

_LARGEST_LINE: Final = 4096  # of a chunk's size and its extensions
_LARGEST_TRAILER: Final = 16 * 1024

#: A header's name (5).
NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TRAILER = re.compile(rf"{NAME}:[\t\x20-\x7e\x80-\xff]*")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")  # 7.1
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})\r\n")
#: How a chunk begins as most servers write it, and its data's size, by the length of all of it.
_BEGINNINGS: Final = {
    len(line) + size + 2: (line, size) for size in range(1, 4096) for line in (b"%x\r\n" % size,)
}
_NO_BEGINNING: Final = (b"", -1)


class BadAnswer(Exception):
    """What came is not the answer of an HTTP/1.1 server; `before` is of its body, and was."""

    before = b""


class Framing(Protocol):
    """How a body is told from what follows it."""

    done: bool  # the body has ended
    excess: bool  # and something came after it
    whole: bool  # what was fed last is whole chunks with nothing else, and can be sent as it is

    def feed(self, data: bytes) -> bytes:
        """What of `data` is the body's. Raises BadAnswer."""

    def ends(self) -> bool:
        """Whether the connection's end is a good end here."""


class Sized:
    """A body of a known length (6.2)."""

    __slots__ = ("_left", "done", "excess")
    whole = False

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0
        self.excess = False

    def feed(self, data: bytes) -> bytes:
        body = data[: self._left]
        self._left -= len(body)
        self.done = self._left == 0
        self.excess |= len(body) < len(data)
        return body

    def ends(self) -> bool:
        return self.done


class UntilClose:
    """A body that ends with its connection."""

    done = False
    excess = False
    whole = False

    def feed(self, data: bytes) -> bytes:
        return data

    def ends(self) -> bool:
        return True


@lru_cache(4096)
def _plain_size(line: bytes) -> int:
    """The size of a chunk that begins with this line; 0 where that takes a closer look."""
    plain = _PLAIN_SIZE.fullmatch(line)
    return 0 if plain is None else int(plain[1], 16)


class Chunked:
    """A chunked body (7.1). Extensions and trailers are bounded, and not passed on."""

    __slots__ = ("_between", "_ending", "_held", "_left", "_trailer", "done", "excess", "whole")

    def __init__(self) -> None:
        self._between = True  # nothing of a chunk, nor of its line, has come
        self._held = b""  # of a line that has begun
        self._left = 0  # of the chunk's data
        self._ending = False  # the chunk's data has ended, its line end is to come
        self._trailer: int | None = None  # bytes of it so far, once the last chunk has come
        self.done = False
        self.excess = False
        self.whole = False

    def ends(self) -> bool:
        return self.done

    def feed(self, data: bytes) -> bytes:
        if not self._between:
            self.whole = False
            return self._read(data, 0, [])
        # One chunk and nothing else, as most reads are: half the cost of asking for the ends first.
        begins, size = _BEGINNINGS.get(len(data), _NO_BEGINNING)
        body = data.removesuffix(b"\r\n").removeprefix(begins)
        if len(body) == size:
            self.whole = True
            return body
        return self._several(data)

    def _several(self, data: bytes) -> bytes:
        """As `feed`, where nothing of a chunk has come yet: whole chunks, as far as there are."""
        parts: list[bytes] = []
        at = 0
        plain = len(data) - 5 if data.endswith(b"0\r\n\r\n") else len(data)
        while at < plain:
            start = data.find(b"\n", at, at + 9) + 1
            size = _plain_size(data[at:start])
            end = start + size
            if not size or data[end : end + 2] != b"\r\n":
                break
            parts.append(data[start:end])
            at = end + 2
        self.whole = at == len(data)
        if at == plain < len(data):  # and what is left is the end
            self._between, self._trailer, self.done = False, 0, True
        elif not self.whole:
            return self._read(data, at, parts)
        return b"".join(parts)

    def _read(self, data: bytes, at: int, parts: list[bytes]) -> bytes:
        """What comes from `at` on, after `parts`."""
        if self._held:
            data, self._held = self._held + data, b""
        try:
            at = self._walk(data, at, parts)
        except BadAnswer as error:
            error.before = b"".join(parts)
            raise
        self.excess |= self.done and at < len(data)
        self._between = not (self._left or self._held or self._ending) and self._trailer is None
        return b"".join(parts)

    def _walk(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Up to where it could be read; what of a line has begun is held."""
        while at < len(data) and not self.done:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                self._ending = not self._left
                continue
            end = self._line_end(data, at)
            if end < 0:
                self._held = data[at:]
                break
            self._line(data[at:end])
            at = end + 2
        return at

    def _line_end(self, data: bytes, at: int) -> int:
        """Where the line at `at` ends, -1 where more is to come; of a chunk's data it is empty."""
        most = 0 if self._ending else _LARGEST_LINE
        end = data.find(b"\r\n", at, at + most + 2)
        if end < 0:
            begun = data[at : at + most + 2]
            if len(begun) == most + 2 or b"\n" in begun or (self._ending and begun != b"\r"):
                raise BadAnswer("a chunk that does not end where it said, or a line too long")
        return end

    def _line(self, line: bytes) -> None:
        if self._ending:
            self._ending = False
        elif self._trailer is None:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise BadAnswer("a malformed chunk")
            self._left = int(size[1], 16)
            if not self._left:
                self._trailer = 0
        elif line:
            self._trailer += len(line)
            if self._trailer > _LARGEST_TRAILER or not _TRAILER.fullmatch(line.decode("latin-1")):
                raise BadAnswer("a malformed trailer")
        else:
            self.done = True
