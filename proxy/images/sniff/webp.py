"""WebP (RFC 9649): a RIFF container with a VP8, VP8L or VP8X chunk first."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from proxy.images.sniff.base import (
    ImageInfo,
    NeedMore,
    NotAnImage,
    Octets,
    check_held,
    check_size,
    steps,
)

_CHUNK: Final = struct.Struct("<4sI")
_RIFF_HEADER: Final = 12
_FIRST: Final = _RIFF_HEADER + _CHUNK.size
_ANIMATION: Final = 0x02
_USUAL: Final = 1024
#: How much of the payload tells the size, by the name of the chunk.
_ENOUGH: Final = {b"VP8X": 10, b"VP8 ": 10, b"VP8L": 5, b"ANMF": 12}


def sniff(data: Octets) -> ImageInfo:
    """An animation's frames are not counted."""
    if len(data) < _FIRST:
        raise NeedMore(_FIRST)
    kind = bytes(data[_RIFF_HEADER : _RIFF_HEADER + 4])
    if len(data) < (needed := _FIRST + _ENOUGH.get(kind, 0)):
        raise NeedMore(needed)
    width, height = _canvas(data) if kind == b"VP8X" else _bitstream(kind, data, _FIRST)
    check_size(width, height)
    animated = kind == b"VP8X" and bool(_uint24(data, _FIRST) & _ANIMATION)
    return ImageInfo("webp", width, height, None if animated else 1, animated)


def walk(data: Octets) -> ImageInfo:
    """Count frames; the size is the largest of canvas and frames.

    Raises NeedMore or NotAnImage also where RIFF's size is not the data's.
    """
    info = sniff(data)
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data):
        raise NeedMore(end)
    if end + (end & 1) < len(data):
        raise NotAnImage("trailing_data")
    width, height, stills, frames = info.width, info.height, 0, 0
    for kind, start, length in _chunks(data):
        if start + length > end:
            raise NeedMore(start + length)
        if kind in _ENOUGH and length < _ENOUGH[kind]:
            raise NotAnImage
        if kind in (b"VP8 ", b"VP8L"):
            stills += 1
            wide, high = _bitstream(kind, data, start)
            if kind == b"VP8 ":  # RFC 6386, 9.1: how much of it the first partition is
                check_held(10 + (_uint24(data, start) >> 5), length, data)
        elif kind == b"ANMF":
            frames += 1
            wide, high = _uint24(data, start + 6) + 1, _uint24(data, start + 9) + 1
        else:
            continue
        check_size(wide, high)
        width, height = max(width, wide), max(height, high)
    if not (frames if info.animated else stills):
        raise NotAnImage
    count = max(1, frames)
    return ImageInfo("webp", width, height, count, animated=count > 1)


def _canvas(data: Octets) -> tuple[int, int]:
    return _uint24(data, _FIRST + 4) + 1, _uint24(data, _FIRST + 7) + 1


def _bitstream(kind: bytes, data: Octets, start: int) -> tuple[int, int]:
    """A frame's size from its own header; enough of it is at hand."""
    if kind == b"VP8 ":  # RFC 6386, 9.1: a key frame, its start code, two 14-bit sizes
        if _uint24(data, start) & 1 or bytes(data[start + 3 : start + 6]) != b"\x9d\x01\x2a":
            raise NotAnImage
        width, height = struct.unpack("<HH", data[start + 6 : start + 10])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[start : start + 1] == b"\x2f":
        bits = int.from_bytes(data[start + 1 : start + 5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise NotAnImage


def _uint24(data: Octets, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


def _chunks(data: Octets) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, where its payload begins, and its length; payloads are padded."""
    position = _RIFF_HEADER
    for _ in range(steps(data, _USUAL)):
        if position >= len(data):  # the last payload's padding may be missing
            return
        if position + _CHUNK.size > len(data):
            raise NeedMore(position + _CHUNK.size)
        kind, length = _CHUNK.unpack(data[position : position + _CHUNK.size])
        yield kind, position + _CHUNK.size, length
        position += _CHUNK.size + length + (length & 1)
    raise NotAnImage
