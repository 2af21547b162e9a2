"""PNG (https://www.w3.org/TR/png-3/): a signature, then chunks from IHDR to IEND."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from proxy.images.sniff.base import ImageInfo, NeedMore, NotAnImage, check_size, steps

_CHUNK: Final = struct.Struct(">I4s")
_SIGNATURE: Final = 8
_CRC: Final = 4
_HEADER_END: Final = 33  # the signature and the whole IHDR chunk


def sniff(data: memoryview) -> ImageInfo:
    """`frames` is known once the bytes reach the first IDAT: acTL must come before it."""
    width, height = _size(data)
    frames: int | None = None
    for kind, start, _ in _chunks(data):
        if kind == b"acTL" and start + 4 <= len(data):
            frames = _declared(data, start)
        elif kind == b"IDAT":
            frames = frames or 1
            break
    return _info(width, height, frames)


def walk(data: memoryview) -> ImageInfo:
    """Raises NotAnImage also for data after IEND, and for an image without IDAT."""
    width, height = _size(data)
    declared, counted, has_pixels = 0, 0, False
    for kind, start, length in _chunks(data):
        end = start + length + _CRC
        if end > len(data):
            raise NeedMore(end)
        if kind == b"IEND":
            if not has_pixels:
                raise NotAnImage
            if end < len(data):
                raise NotAnImage("trailing_data")
            return _info(width, height, max(1, declared, counted))
        if kind == b"IDAT":
            has_pixels = True
        elif kind == b"acTL" and length >= 4:
            declared = _declared(data, start)
        elif kind == b"fcTL":
            counted += 1
        elif kind == b"IHDR" and start != _SIGNATURE + _CHUNK.size:
            raise NotAnImage
    raise NeedMore(len(data) + _CHUNK.size + _CRC)


def _info(width: int, height: int, frames: int | None) -> ImageInfo:
    return ImageInfo("png", width, height, frames, animated=(frames or 1) > 1)


def _size(data: memoryview) -> tuple[int, int]:
    if len(data) < _HEADER_END:
        raise NeedMore(_HEADER_END)
    length, kind, width, height = struct.unpack_from(">I4sII", data, _SIGNATURE)
    if (length, kind) != (13, b"IHDR"):
        raise NotAnImage
    check_size(width, height)
    return width, height


def _declared(data: memoryview, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")


def _chunks(data: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's type, the offset of its data, and their length, which may lie beyond."""
    position = _SIGNATURE
    for _ in range(steps(data)):
        if position + _CHUNK.size > len(data):
            return
        length, kind = _CHUNK.unpack_from(data, position)
        yield kind, position + _CHUNK.size, length
        position += _CHUNK.size + length + _CRC
    raise NotAnImage
