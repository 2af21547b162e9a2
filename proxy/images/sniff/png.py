"""PNG (https://www.w3.org/TR/png-3/): a signature, then chunks from IHDR to IEND."""

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

_CHUNK: Final = struct.Struct(">I4s")
_SIGNATURE: Final = 8
_CRC: Final = 4
_USUAL: Final = 1024
_HEADER_END: Final = 33  # the signature and the whole IHDR chunk

#: Samples of a pixel, and the bits that each may have, by colour type (PNG, table 11.1).
_COLOURS: Final = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
#: No byte of a deflate stream makes more: 258 of two bits (RFC 1951, 3.2.5).
_MOST_INFLATED: Final = 1032


def sniff(data: memoryview) -> ImageInfo:
    """`frames` is known once the bytes reach the first IDAT: acTL must come before it."""
    width, height = _size(data)
    declared, shown = 0, False
    for kind, start, _ in _chunks(data):
        if kind == b"acTL" and start + 4 <= len(data):
            declared = _declared(data, start)
        elif kind == b"fcTL":
            shown = True
        elif kind == b"IDAT":
            return _info(width, height, _frames(declared, apart=not shown))
    return ImageInfo("png", width, height, frames=None, animated=declared > 1)


def walk(data: Octets) -> ImageInfo:
    """Raises NotAnImage also for data after IEND, and for an image without IDAT."""
    width, height = _size(data)
    declared, counted, packed, apart = 0, 0, 0, False
    for kind, start, length in _chunks(data):
        end = start + length + _CRC
        if end > len(data):
            raise NeedMore(end)
        if kind == b"IEND":
            if end < len(data):
                raise NotAnImage("trailing_data")
            _check_pixels(data, width, height, packed)
            return _info(width, height, _frames(max(declared, counted), apart=apart))
        if kind == b"IDAT":
            apart = apart or not counted
            packed += length
        elif kind == b"acTL" and length >= 4:
            declared = _declared(data, start)
        elif kind == b"fcTL":
            counted += 1
        elif kind == b"IHDR" and start != _SIGNATURE + _CHUNK.size:
            raise NotAnImage
    raise NeedMore(len(data) + _CHUNK.size + _CRC)


def _check_pixels(data: Octets, width: int, height: int, packed: int) -> None:
    """Raises SniffError where so many bytes of IDAT are too few for the pixels, or far too many.

    What they inflate to is not looked at; a decoder stops at the last row.
    """
    depth, colour = data[24:26]
    samples, depths = _COLOURS.get(colour, (0, ()))
    if not packed or depth not in depths:
        raise NotAnImage
    unpacked = width * height * samples * depth // 8
    check_held(unpacked // _MOST_INFLATED, packed, data)
    # Rows have a filter byte and, where they are interlaced, there are twice as many; an encoder
    # may store them as they are, and end its block after each.
    if packed > 2 * unpacked + 64 * (height + 64):
        raise NotAnImage("trailing_data")


def _info(width: int, height: int, frames: int) -> ImageInfo:
    return ImageInfo("png", width, height, frames, animated=frames > 1)


def _frames(animated: int, *, apart: bool) -> int:
    """Frames in all. IDAT is `apart` where no fcTL is before it: then it is a picture of its own,
    for those that show no animation.
    """
    return animated + apart if animated else 1


def _size(data: Octets) -> tuple[int, int]:
    if len(data) < _HEADER_END:
        raise NeedMore(_HEADER_END)
    length, kind, width, height = struct.unpack(">I4sII", data[_SIGNATURE : _SIGNATURE + 16])
    if (length, kind) != (13, b"IHDR"):
        raise NotAnImage
    check_size(width, height)
    return width, height


def _declared(data: Octets, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")


def _chunks(data: Octets) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's type, the offset of its data, and their length, which may lie beyond."""
    position = _SIGNATURE
    for _ in range(steps(data, _USUAL)):
        if position + _CHUNK.size > len(data):
            return
        length, kind = _CHUNK.unpack(data[position : position + _CHUNK.size])
        yield kind, position + _CHUNK.size, length
        position += _CHUNK.size + length + _CRC
    raise NotAnImage
