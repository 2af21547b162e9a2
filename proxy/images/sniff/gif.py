"""GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt): a screen, then blocks."""

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

_SCREEN_END: Final = 13
_USUAL: Final = 128  # a sub-block has 255 at the most
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B

#: The extension that has an animation begin again, as nearly all do, by its label and its name;
#: it is among the first that many bytes of blocks.
_LOOPS: Final = b"\xff\x0bNETSCAPE2.0"
_LOOPS_WITHIN: Final = 1024
#: So many bytes are looked through for a second frame.
_LOOK: Final = 16 << 10
#: No byte of a frame makes more: a code of 12 bits stands for at most 4096 (appendix F).
_MOST_PIXELS: Final = 4096 * 8 // 12 + 1


def sniff(data: memoryview) -> ImageInfo:
    """The logical screen. `frames` is known where the bytes reach the image's end.

    Raises NeedMore until they reach it, a second frame, or 16 KiB; then an image that has
    itself repeated is taken for animated.
    """
    width, height, position = _screen(data)
    begin = data[:_LOOK]
    frames = 0
    try:
        for _ in _frames(begin, position, whole=False):
            frames += 1
            if frames > 1:
                return ImageInfo("gif", width, height, frames=None, animated=True)
    except NeedMore:
        if len(data) < _LOOK:
            raise
        loops = _LOOPS in bytes(begin[position : position + _LOOPS_WITHIN])
        return ImageInfo("gif", width, height, frames=None, animated=loops)
    return ImageInfo("gif", width, height, frames, animated=False)


def walk(data: Octets) -> ImageInfo:
    """Count frames. The size is the largest of screen and frames: some decoders grow it.

    Raises SniffError also for data after the trailer.
    """
    whole = memoryview(data[:])  # of 256 bytes, one is looked at
    width, height, position = _screen(whole)
    frames = 0
    for right, bottom in _frames(whole, position, whole=True):
        frames += 1
        width, height = max(width, right), max(height, bottom)
    return ImageInfo("gif", width, height, frames, animated=frames > 1)


def _frames(data: memoryview, position: int, *, whole: bool) -> Iterator[tuple[int, int]]:
    """How far right and down each frame reaches.

    Raises SniffError, also where there is none, a frame's data are too few for its pixels, or
    something follows the end of the `whole`.
    """
    none = True
    budget = iter(range(steps(data, _USUAL)))
    while (kind := _byte(data, position)) != _TRAILER:
        if kind == _EXTENSION:
            position = _skip_blocks(data, position + 2, budget)
            continue
        if kind != _IMAGE:
            raise NotAnImage
        begin = position + 10
        if begin > len(data):
            raise NeedMore(begin)
        left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, position + 1)
        check_size(wide, high)
        begin += _colours(flags) + 1  # one byte of code size goes before the blocks
        position = _skip_blocks(data, begin, budget)
        check_held(wide * high // _MOST_PIXELS, position - begin, data)
        none = False
        yield left + wide, top + high
    if none:
        raise NotAnImage
    if whole and position + 1 < len(data):
        raise NotAnImage("trailing_data")


def _screen(data: memoryview) -> tuple[int, int, int]:
    """Width, height, and where the first block begins."""
    if len(data) < _SCREEN_END:
        raise NeedMore(_SCREEN_END)
    if data[4] not in b"79":
        raise NotAnImage
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(width, height)
    return width, height, _SCREEN_END + _colours(flags)


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(data: memoryview, position: int, budget: Iterator[int]) -> int:
    """Where a chain of sub-blocks ends; every one takes a step of the budget."""
    end = len(data)
    for _ in budget:
        if position >= end:
            raise NeedMore(position + 1)
        length = data[position]
        position += 1 + length
        if not length:
            return position
    raise NotAnImage


def _byte(data: memoryview, position: int) -> int:
    if position >= len(data):
        raise NeedMore(position + 1)
    return data[position]
