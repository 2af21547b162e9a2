"""Images and policies that several tests share."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from proxy.domain.chat import split_data
from proxy.domain.steps import finish
from proxy.images import policy
from proxy.images.policy import ImageLimits, ImagePolicy
from proxy.images.sniff import ImageInfo, SniffError
from proxy.images.urls import UrlRules

CASES = Path(__file__).parent.parent / "cases"


def load_cases(name: str) -> dict[str, Any]:
    # The C loader: one of the files holds URLs of 8 KB.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((CASES / name).read_text(encoding="utf-8"), Loader=loader)


def make_image(
    fmt: str, width: int = 8, height: int = 6, *, frames: int = 1, mode: str = "RGB", **options: Any
) -> bytes:
    """An image that Pillow writes; animated where there are several frames."""
    first, *others = (
        Image.new(mode, (width, height), (7 * n % 256,) * len(mode)) for n in range(frames)
    )
    if others:
        options |= {"save_all": True, "append_images": others}
    buffer = io.BytesIO()
    first.save(buffer, fmt, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


#: Samples of a pixel and the bits of each, by colour type (PNG, table 11.1).
PNG_COLOURS = {
    0: (1, [1, 2, 4, 8, 16]),
    2: (3, [8, 16]),
    3: (1, [1, 2, 4, 8]),
    4: (2, [8, 16]),
    6: (4, [8, 16]),
}
#: Where Adam7's passes begin and how far apart their pixels are, across and down.
ADAM7 = [
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
]


def write_png(
    width: int,
    height: int,
    *,
    colour: int = 2,
    depth: int = 8,
    interlaced: bool = False,
    before: bytes = b"",
    pieces: int = 1,
    pixels: bytes | None = None,
) -> bytes:
    """A black PNG of any kind, with chunks before its IDAT; `pixels` are its data as packed."""
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    sides = [(-((x - width) // dx), -((y - height) // dy)) for x, y, dx, dy in passes]
    bits = depth * PNG_COLOURS[colour][0]
    raw = sum(rows * (1 + (row * bits + 7) // 8) for row, rows in sides if row > 0)
    body = zlib.compress(bytes(raw)) if pixels is None else pixels
    size = -(-len(body) // pieces) or 1
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(
                b"IHDR",
                width.to_bytes(4) + height.to_bytes(4) + bytes([depth, colour, 0, 0, interlaced]),
            ),
            before,
            png_chunk(b"PLTE", bytes(3)) if colour == 3 else b"",
            *(png_chunk(b"IDAT", body[at : at + size]) for at in range(0, len(body), size)),
            png_chunk(b"IEND", b""),
        ]
    )


def look(reader: Callable[[bytes], ImageInfo], data: bytes) -> ImageInfo | SniffError:
    """What a reader finds, or its own error; any other error fails the test."""
    try:
        return reader(data)
    except SniffError as error:
        return error


def large_png(size: int) -> bytes:
    """A PNG of about so many bytes by its structure; its pixels are noise that none could show."""
    side = max(16, int((size / 3) ** 0.5))
    noise = random.Random(size).randbytes(max(1, size - 57 - 12 * (size >> 13)))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    pixels = [chunk(b"IDAT", noise[at : at + 8192]) for at in range(0, len(noise), 8192)]
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *pixels, chunk(b"IEND", b"")))


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def judge_data(uri: str, limits: ImageLimits) -> ImageInfo:
    """What comes of all of a data: URI, judged in one go."""
    head, data = split_data(uri)
    return finish(policy.judge_data(head, data or b"", limits))


def make_policy(**changes: Any) -> ImagePolicy:
    """The policy that the case files are written for, with changes."""
    fields: dict[str, Any] = {
        "mode": "inspect",
        "urls": UrlRules(frozenset({"http", "https", "data"}), frozenset({80, 443})),
        "formats": frozenset({"png", "jpeg", "gif", "webp"}),
        "max_count": 20,
        "max_bytes": 20 << 20,
        "max_pixels": 50_000_000,
        "max_side": 8000,
        "max_frames": 1,
    }
    return ImagePolicy(**fields | changes)


EXIF_ORIENTATION = 0x0112


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = orientation
    return tags


KINDS: dict[str, dict[str, Any]] = {
    "png": {"fmt": "PNG"},
    "png-grey": {"fmt": "PNG", "mode": "L"},
    "png-alpha": {"fmt": "PNG", "mode": "RGBA"},
    "apng": {"fmt": "PNG", "frames": 3},
    "jpeg": {"fmt": "JPEG"},
    "jpeg-progressive": {"fmt": "JPEG", "progressive": True},
    "jpeg-grey": {"fmt": "JPEG", "mode": "L"},
    "jpeg-cmyk": {"fmt": "JPEG", "mode": "CMYK"},
    "jpeg-profile": {"fmt": "JPEG", "icc_profile": bytes(200_000), "exif": exif(6)},
    "gif": {"fmt": "GIF"},
    "gif-moving": {"fmt": "GIF", "frames": 4},
    "webp": {"fmt": "WEBP"},
    "webp-lossless": {"fmt": "WEBP", "lossless": True},
    "webp-alpha": {"fmt": "WEBP", "mode": "RGBA"},
    "webp-extended": {"fmt": "WEBP", "exif": exif(3)},
    "webp-moving": {"fmt": "WEBP", "frames": 3},
}
SAMPLES = {name: make_image(**kind) for name, kind in KINDS.items()}
