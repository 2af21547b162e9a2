"""What an image may be: one frozen policy, and the judgements it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from proxy.images.datauri import parse_data_uri
from proxy.images.errors import REASONS, refuse
from proxy.images.hosts import compile_patterns
from proxy.images.rewrite import RewriteRule
from proxy.images.sniff import ImageInfo, SniffError, format_of, walk
from proxy.images.urls import UrlRules

__all__ = [
    "DETAILS",
    "MODES",
    "REASONS",
    "ImagePolicy",
    "cap_detail",
    "check_count",
    "check_info",
    "judge_data",
    "tighten",
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
_BROKEN: Final = {
    "truncated": "it ends too early; send all of its bytes",
    "trailing_data": "there is data after its end; send the image alone",
    "empty": "its width or height is zero",
    "not_an_image": "its structure is not that of its format",
}


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """The `images` block of the config: bytes, pixels, and names of formats and details."""

    mode: str
    urls: UrlRules
    formats: frozenset[str]
    max_count: int
    max_bytes: int
    max_pixels: int
    max_side: int
    max_frames: int
    detail_default: str | None = None
    detail_cap: str | None = None
    rewrite: tuple[RewriteRule, ...] = ()
    on_unreachable: str = "assume_largest"


def tighten(base: ImagePolicy, narrower: ImagePolicy) -> ImagePolicy:
    """The policy of a plan: `narrower`, which must allow nothing that `base` does not.

    Denied hosts and rewrites add up, the base's first; a detail that the plan leaves open
    is the base's. Raises ValueError naming the field that would loosen.
    """
    for field, within in _NARROWS.items():
        if not within(narrower, base):
            raise ValueError(f"images.{field}: a plan may only tighten it")
    urls = replace(narrower.urls, deny=_joined(base.urls.deny, narrower.urls.deny))
    return replace(
        narrower,
        urls=urls,
        detail_default=narrower.detail_default or base.detail_default,
        detail_cap=narrower.detail_cap or base.detail_cap,
        rewrite=_joined(base.rewrite, narrower.rewrite),
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


def check_count(count: int, policy: ImagePolicy) -> None:
    """Raises ImageRefused for more images than one request may hold."""
    if count > policy.max_count:
        raise refuse(
            "count", f"the request holds {count} images; at most {policy.max_count} are allowed"
        )


def check_info(info: ImageInfo, policy: ImagePolicy) -> None:
    """Raises ImageRefused for an image of the wrong format, or with too much in it.

    Frames that were not counted pass unless the image is known to be animated and one
    frame is all that is allowed.
    """
    if info.format not in policy.formats:
        raise _unwanted(info.format, policy)
    side, pixels = max(info.width, info.height), info.width * info.height
    size = f"the image is {info.width}x{info.height} pixels"
    if side > policy.max_side:
        raise refuse("side", f"{size}; at most {policy.max_side} a side are allowed")
    if pixels > policy.max_pixels:
        raise refuse("pixels", f"{size}; at most {policy.max_pixels} in all are allowed")
    frames = info.frames if info.frames is not None else 1 + info.animated
    if frames > policy.max_frames:
        raise refuse(
            "frames", f"the image is animated; at most {policy.max_frames} frames are allowed"
        )


def judge_data(uri: str, policy: ImagePolicy) -> ImageInfo:
    """Judge an image in a data: URI, all of it; costs time by its size.

    Raises ImageRefused: such an image is wholly the client's, so what it declares must
    be what it is, and it must be whole.
    """
    if "data" not in policy.urls.schemes:
        raise refuse("scheme", "data: image URLs are not allowed; link to the image")
    image = parse_data_uri(uri, policy.max_bytes)
    declared = _FORMATS.get(image.media_type)
    if declared not in policy.formats:
        raise _unwanted(image.media_type, policy)
    found = format_of(image.data)
    if found is None:
        raise refuse("not_an_image", f"the image's bytes are not those of {image.media_type}")
    if found != declared:
        raise refuse("media_type", f"the image is declared {image.media_type} but is {found}")
    try:
        info = walk(image.data)
    except SniffError as error:
        raise refuse(
            error.reason, f"the {found} image is broken: {_BROKEN[error.reason]}"
        ) from None
    check_info(info, policy)
    return info


def _unwanted(what: str, policy: ImagePolicy) -> Exception:
    known = ", ".join(sorted(policy.formats))
    return refuse("format", f"{what} images are not allowed; allowed: {known}")


def _joined(first: tuple[T, ...], then: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(first + then))


def _at_most(field: str) -> Callable[[ImagePolicy, ImagePolicy], bool]:
    return lambda plan, base: bool(getattr(plan, field) <= getattr(base, field))


def _covered(field: str) -> Callable[[ImagePolicy, ImagePolicy], bool]:
    def within(plan: ImagePolicy, base: ImagePolicy) -> bool:
        wide, narrow = (compile_patterns(getattr(p.urls, field)) for p in (base, plan))
        return wide.cover(narrow)

    return within


def _cap_within(plan: ImagePolicy, base: ImagePolicy) -> bool:
    if plan.detail_cap is None or base.detail_cap is None:
        return True
    if (plan.detail_cap, base.detail_cap) == ("auto", "high"):
        return False
    return _RANKS[plan.detail_cap] <= _RANKS[base.detail_cap]


_NARROWS: Final[dict[str, Callable[[ImagePolicy, ImagePolicy], bool]]] = {
    "mode": lambda plan, base: MODES.index(plan.mode) >= MODES.index(base.mode),
    "schemes": lambda plan, base: plan.urls.schemes <= base.urls.schemes,
    "ports": lambda plan, base: plan.urls.ports <= base.urls.ports,
    "hosts.allow": _covered("allow"),
    "hosts.internal": _covered("internal"),
    "formats": _at_most("formats"),
    "max_count": _at_most("max_count"),
    "max_bytes": _at_most("max_bytes"),
    "max_pixels": _at_most("max_pixels"),
    "max_side": _at_most("max_side"),
    "max_frames": _at_most("max_frames"),
    "detail.cap": _cap_within,
}
