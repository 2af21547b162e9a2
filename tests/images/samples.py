"""Images and policies that several tests share."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from proxy.images.policy import ImagePolicy
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


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


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
