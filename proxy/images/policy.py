"""What an image may be: one frozen policy, and the judgements it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.domain.steps import Steps
from proxy.images.datauri import Dense, parse_data_uri
from proxy.images.errors import REASONS, faulty, refuse
from proxy.images.rewrite import RewriteRule
from proxy.images.sniff import ImageInfo, SniffError, format_of, walk
from proxy.images.urls import UrlRules

__all__ = [
    "DETAILS",
    "MODES",
    "REASONS",
    "ImageLimits",
    "ImagePolicy",
    "cap_detail",
    "check_count",
    "check_info",
    "judge_data",
    "narrowest",
]

T = TypeVar("T")

#: From the least that is checked to the most.
MODES: Final = ("url", "inspect", "inline")

#: Details by what they may cost; auto is a model's choice, and high for most.
_RANKS: Final = {"low": 0, "auto": 1, "high": 1, "original": 2}
DETAILS: Final = tuple(_RANKS)

_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}


@dataclass(frozen=True, slots=True, eq=False)  # one is made at start, and looked up by identity
class ImageLimits:
    """What images may be: their formats by name, how many of them, bytes, pixels, frames."""

    formats: frozenset[str]
    max_count: int
    max_bytes: int
    max_pixels: int
    max_side: int
    max_frames: int


@dataclass(frozen=True, slots=True, eq=False)
class ImagePolicy(ImageLimits):
    """The `images` block of the config."""

    mode: str
    urls: UrlRules
    detail_default: str | None = None
    detail_cap: str | None = None
    rewrite: tuple[RewriteRule, ...] = ()
    on_unreachable: str = "assume_largest"


def narrowest(limits: Sequence[ImageLimits]) -> ImageLimits:
    """What all of the limits allow; at least one is given."""
    return ImageLimits(
        formats=frozenset.intersection(*(each.formats for each in limits)),
        max_count=min(each.max_count for each in limits),
        max_bytes=min(each.max_bytes for each in limits),
        max_pixels=min(each.max_pixels for each in limits),
        max_side=min(each.max_side for each in limits),
        max_frames=min(each.max_frames for each in limits),
    )


def cap_detail(detail: str | None, policy: ImagePolicy) -> str | None:
    """The detail to ask for: the policy's default if there is none, held under its cap.

    low < auto, high < original. A cap of `high` also turns `auto`, and none at all, into
    `high`, because on some models auto means original; a cap of `auto` leaves the choice
    to the model. Raises ImageRefused for a detail that does not exist.
    """
    wanted = detail or policy.detail_default
    cap = policy.detail_cap
    if wanted is not None and wanted not in _RANKS:
        raise refuse("detail", f"an image's detail is one of {', '.join(DETAILS)}")
    if cap is None or (wanted is None and cap in ("auto", "original")):
        return wanted
    if wanted is None or _RANKS[wanted] > _RANKS[cap] or (wanted == "auto" and cap == "high"):
        return cap
    return wanted


def check_count(count: int, limits: ImageLimits) -> None:
    """Raises ImageRefused for more images than one request may hold."""
    if count > limits.max_count:
        raise refuse(
            "count", f"the request holds {count} images; at most {limits.max_count} are allowed"
        )


def check_info(info: ImageInfo, limits: ImageLimits) -> None:
    """Raises ImageRefused for an image of the wrong format, or with too much in it.

    Frames that were not counted pass unless the image is known to be animated and one
    frame is all that is allowed.
    """
    if info.format not in limits.formats:
        raise _unwanted(info.format, limits)
    side, pixels = max(info.width, info.height), info.width * info.height
    size = f"the image is {info.width}x{info.height} pixels"
    if side > limits.max_side:
        raise refuse("side", f"{size}; at most {limits.max_side} a side are allowed")
    if pixels > limits.max_pixels:
        raise refuse("pixels", f"{size}; at most {limits.max_pixels} in all are allowed")
    frames = info.frames if info.frames is not None else 1 + info.animated
    if frames > limits.max_frames:
        raise refuse(
            "frames", f"the image is animated; at most {limits.max_frames} frames are allowed"
        )


def judge_data(head: str, text: bytes | memoryview, limits: ImageLimits) -> Steps[ImageInfo]:
    """Judge an image in a data: URI, all of it, by what it is up to the comma and after.

    Raises ImageRefused: such an image is wholly the client's, so what it declares must
    be what it is, and it must be whole.
    """
    image = yield from parse_data_uri(head, text, limits.max_bytes)
    declared = _FORMATS.get(image.media_type)
    if declared not in limits.formats:
        raise _unwanted(image.media_type, limits)
    found = format_of(image.data)
    if found is None:
        raise faulty("not_an_image")
    if found != declared:
        raise refuse("media_type", f"the image is declared {image.media_type} but is {found}")
    try:
        try:
            info = walk(image.data)
        except Dense:
            info = walk((yield from image.data.decode()))
    except SniffError as error:
        raise faulty(error.reason) from None
    check_info(info, limits)
    return info


def _unwanted(what: str, limits: ImageLimits) -> Exception:
    known = ", ".join(sorted(limits.formats))
    return refuse("format", f"{what} images are not allowed; allowed: {known}")
