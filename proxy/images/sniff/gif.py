"""GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt): a screen, then blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from proxy.images.sniff.base import ImageInfo, NeedMore, NotAnImage, check_size, steps

_SCREEN_END: Final = 13
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def sniff(data: memoryview) -> ImageInfo:
    """The logical screen; frames cannot be known without walking them all."""
    width, height, _ = _screen(data)
    return ImageInfo("gif", width, height, frames=None, animated=False)


def walk(data: memoryview) -> ImageInfo:
    """Count frames. The size is the largest of screen and frames: some decoders grow it."""
    width, height, position = _screen(data)
    frames = 0
    budget = iter(range(steps(data)))
    while True:
        kind = _byte(data, position)
        if kind == _TRAILER:
            break
        if kind == _EXTENSION:
            position = _skip_blocks(data, position + 2, budget)
        elif kind == _IMAGE:
            frames += 1
            if position + 10 > len(data):
                raise NeedMore(position + 10)
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, position + 1)
            check_size(wide, high)
            width, height = max(width, left + wide), max(height, top + high)
            # The local colours, then one byte of code size before the blocks.
            position = _skip_blocks(data, position + 10 + _colours(flags) + 1, budget)
        else:
            raise NotAnImage
    if not frames:
        raise NotAnImage
    if position + 1 < len(data):
        raise NotAnImage("trailing_data")
    return ImageInfo("gif", width, height, frames, animated=frames > 1)


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
    for _ in budget:
        length = _byte(data, position)
        position += 1 + length
        if not length:
            return position
    raise NotAnImage


def _byte(data: memoryview, position: int) -> int:
    if position >= len(data):
        raise NeedMore(position + 1)
    return data[position]
