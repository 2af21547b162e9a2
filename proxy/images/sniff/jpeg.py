"""JPEG (ITU-T T.81, annex B): segments up to the first scan, then entropy-coded data."""

from __future__ import annotations

import re
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
)

#: T.81, table B.1: a frame begins with any SOF; C4, C8 and CC are other markers.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Those whose blocks of 8x8 pixels take a bit each, at the least: Huffman-coded DCT.
_BLOCKS: Final = frozenset({0xC0, 0xC1, 0xC2})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and RSTn have no length
_SOI, _EOI, _SCAN, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_EXIF: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112

#: A marker after any number of fill bytes (T.81, B.1.1.2).
_MARKER: Final = re.compile(rb"\xff++([^\x00\xff])", re.DOTALL)
_FILL: Final = re.compile(rb"\xff*+")
_END: Final = re.compile(b"\xff\xd9")
_GLANCE: Final = 8  # bytes that nearly always are enough; else so many are looked at together:
_WINDOW: Final = 64 << 10

#: Extended XMP, the largest that cameras write, fills some hundreds.
_MOST_SEGMENTS: Final = 4096


def sniff(data: memoryview) -> ImageInfo:
    """Raises NeedMore until the bytes reach the frame header."""
    return _read(data, stop_at_frame=True)


def walk(data: Octets) -> ImageInfo:
    """Whole means an end of image after the first scan.

    What comes after it is allowed: phones append a film or a gain map.
    """
    return _read(data, stop_at_frame=False)


def _read(data: Octets, *, stop_at_frame: bool) -> ImageInfo:
    size: tuple[int, int] | None = None
    orientation: int | None = None
    blocks = 0
    for marker, start, end in _segments(data):
        if marker in _FRAMES:
            if size is not None:
                raise NotAnImage
            if start + 5 > len(data):
                raise NeedMore(end)
            height, width = struct.unpack(">HH", data[start + 1 : start + 5])
            check_size(width, height)
            size = width, height
            blocks = -(-width // 8) * -(-height // 8) if marker in _BLOCKS else 0
            if stop_at_frame:
                break
        elif marker == _APP1 and orientation is None and bytes(data[start : start + 6]) == _EXIF:
            orientation = _orientation(data, start + 6, end)
        elif marker == _SCAN:
            if size is None:
                raise NotAnImage
            if not _ends(data, end):
                raise NeedMore(max(end, len(data)) + 2)
            check_held(blocks // 8, len(data) - end, data)
            break
    if size is None:
        raise NotAnImage
    return ImageInfo("jpeg", *size, frames=1, animated=False, orientation=orientation or 1)


def _ends(data: Octets, begin: int) -> bool:
    """Whether there is an end of image; it is most likely at the very end."""
    if _END.search(data[max(begin, len(data) - _GLANCE) :]):
        return True
    windows = range(len(data), begin, -_WINDOW)
    return any(_END.search(data[max(begin, stop - _WINDOW - 1) : stop]) for stop in windows)


def _segments(data: Octets) -> Iterator[tuple[int, int, int]]:
    """Each segment's marker, and where its content begins and ends, perhaps beyond."""
    position = 2
    for _ in range(_MOST_SEGMENTS):
        marker, position = _marker(data, position)
        if marker in _ALONE:
            continue
        if marker in (_SOI, _EOI):
            raise NotAnImage
        if position + 2 > len(data):
            raise NeedMore(position + 2)
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2:
            raise NotAnImage
        yield marker, position + 2, position + length
        position += length
    raise NotAnImage


def _marker(data: Octets, position: int) -> tuple[int, int]:
    """The marker that is next, and where it ends. Any number of fill bytes may be before it."""
    begin, size = position, _GLANCE
    while (match := _MARKER.match(window := data[begin : begin + size])) is None:
        if _FILL.fullmatch(window) is None:
            raise NotAnImage
        if len(window) < size:
            raise NeedMore(max(position, len(data)) + 4)
        begin += size - 1  # the last fill byte is the marker's own first
        size = _WINDOW
    return match[1][0], begin + match.end()


def _orientation(data: Octets, start: int, end: int) -> int:
    """EXIF's orientation, or 1 where it is missing or makes no sense."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[start : start + 2]))
    if order is None:
        return 1
    entry = struct.Struct(order + "HHIH2x")
    try:
        (offset,) = struct.unpack(order + "I", data[start + 4 : min(start + 8, end)])
        begin = start + offset + 2
        (count,) = struct.unpack(order + "H", data[begin - 2 : min(begin, end)])
    except struct.error:  # the directory is not in the segment
        return 1
    entries = data[begin : min(begin + count * entry.size, end)]
    for tag, _, _, value in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
        if tag == _ORIENTATION:
            return int(value) if 1 <= value <= 8 else 1
    return 1
