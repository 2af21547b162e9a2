"""Image formats and sizes from bytes alone; nothing is decoded.

`sniff` reads what the first bytes tell. `walk` has the whole image at hand and follows
its structure to the end. Both take time by the number of blocks, never by pixels, and
raise nothing but SniffError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.images.sniff import gif, jpeg, png, webp
from proxy.images.sniff.base import ImageInfo, NeedMore, NotAnImage, Octets, SniffError

__all__ = [
    "ImageInfo",
    "NeedMore",
    "NotAnImage",
    "Octets",
    "SniffError",
    "format_of",
    "sniff",
    "walk",
]


class _Format(NamedTuple):
    magic: tuple[tuple[int, bytes], ...]  # what must stand at which offset
    sniff: Callable[[memoryview], ImageInfo]
    walk: Callable[[Octets], ImageInfo]


_FORMATS: Final = {
    "png": _Format(((0, b"\x89PNG\r\n\x1a\n"),), png.sniff, png.walk),
    "jpeg": _Format(((0, b"\xff\xd8\xff"),), jpeg.sniff, jpeg.walk),
    "gif": _Format(((0, b"GIF8"), (5, b"a")), gif.sniff, gif.walk),
    "webp": _Format(((0, b"RIFF"), (8, b"WEBP")), webp.sniff, webp.walk),
}
_LONGEST_MAGIC: Final = 12


def format_of(data: Octets) -> str | None:
    """png, jpeg, gif or webp, by the bytes that every such file begins with."""
    head = data[:_LONGEST_MAGIC]
    for name, known in _FORMATS.items():
        if all(head[at : at + len(magic)] == magic for at, magic in known.magic):
            return name
    return None


def sniff(data: bytes | memoryview) -> ImageInfo:
    """What an image's first bytes tell.

    Raises NeedMore where they end before the size (a JPEG may need 200 KB), and
    NotAnImage where they are not an image's.
    """
    return _format(data).sniff(memoryview(data))


def walk(data: Octets) -> ImageInfo:
    """Follow a whole image's structure; `frames` is counted.

    Raises NeedMore for an image that ends too early, and NotAnImage for one that is not
    what it should be or, but for JPEG, has data after its end.
    """
    return _format(data).walk(data)


def _format(data: Octets) -> _Format:
    name = format_of(data)
    if name is not None:
        return _FORMATS[name]
    if len(data) < _LONGEST_MAGIC and any(
        all(data[at : at + len(magic)] == magic[: max(0, len(data) - at)] for at, magic in f.magic)
        for f in _FORMATS.values()
    ):
        raise NeedMore(_LONGEST_MAGIC)
    raise NotAnImage
