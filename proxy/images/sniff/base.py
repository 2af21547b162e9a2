"""What a look at an image's bytes finds, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Fault = Literal["not_an_image", "truncated", "trailing_data", "empty"]


class Octets(Protocol):
    """Bytes that are cheap to look at here and there, as those of a memoryview."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> bytes | memoryview: ...


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image's format (png, jpeg, gif, webp) and size in pixels, before any rotation.

    `frames` is None where the bytes at hand do not tell; `orientation` is EXIF's, 1 to 8,
    read for JPEG alone: from 5 on, width and height change places on display.
    """

    format: str
    width: int
    height: int
    frames: int | None
    animated: bool
    orientation: int = 1


class SniffError(Exception):
    """The bytes are not an image, or not all of one."""

    reason: Fault = "not_an_image"


class NeedMore(SniffError):
    """The bytes end too early: at least `needed` in all would tell more."""

    reason: Fault = "truncated"

    def __init__(self, needed: int) -> None:
        super().__init__(f"at least {needed} bytes are needed")
        self.needed = needed


class NotAnImage(SniffError):
    """The bytes break the format's rules; no more of them would help."""

    def __init__(self, reason: Fault = "not_an_image") -> None:
        super().__init__(reason)
        self.reason = reason


def check_size(width: int, height: int) -> None:
    """Raises NotAnImage for an image without pixels."""
    if not width or not height:
        raise NotAnImage("empty")


def check_held(needed: int, held: int, data: Octets) -> None:
    """Raises NeedMore where pixels take at least `needed` bytes, and fewer hold them.

    So is told, without decoding, an image that declares far more than it has.
    """
    if held < needed:
        raise NeedMore(len(data) + needed - held)


def steps(data: Octets, usual: int) -> int:
    """How many blocks an image of this size may have before it is taken for an attack.

    `usual` is the least size in bytes that encoders give the blocks of large images; a hostile
    file is all block headers, and would take seconds to walk.
    """
    return len(data) // usual + 4096
