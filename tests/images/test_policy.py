"""The policy of images."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from proxy.domain.errors import ImageRefused
from proxy.images import policy as module
from proxy.images.policy import (
    REASONS,
    ImagePolicy,
    cap_detail,
    check_count,
    check_info,
)
from proxy.images.sniff import ImageInfo
from tests.images.samples import data_uri, judge_data, make_image, make_policy, png_chunk

BASE = make_policy()
PNG = make_image("PNG")


def with_urls(base: ImagePolicy, **changes: Any) -> ImagePolicy:
    return replace(base, urls=replace(base.urls, **changes))


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        (None, {None: None, "low": "low", "auto": "auto", "high": "high", "original": "original"}),
        ("low", dict.fromkeys([None, "low", "auto", "high", "original"], "low")),
        ("auto", {None: None, "low": "low", "auto": "auto", "high": "high", "original": "auto"}),
        ("high", {None: "high", "low": "low", "auto": "high", "high": "high", "original": "high"}),
        (
            "original",
            {None: None, "low": "low", "auto": "auto", "high": "high", "original": "original"},
        ),
    ],
)
def test_cap_detail(cap: str | None, expected: dict[str | None, str | None]) -> None:
    """A detail over the cap becomes the cap, and so does one that might be over it."""
    policy = replace(BASE, detail_cap=cap)
    assert {detail: cap_detail(detail, policy) for detail in expected} == expected


def test_default_detail() -> None:
    """The default stands in for no detail, and is held under the cap too."""
    assert cap_detail(None, replace(BASE, detail_default="low")) == "low"
    assert cap_detail("high", replace(BASE, detail_default="low")) == "high"
    assert cap_detail(None, replace(BASE, detail_default="high", detail_cap="low")) == "low"


def test_unknown_detail() -> None:
    """A detail that does not exist is refused, with those that do."""
    with pytest.raises(ImageRefused, match="low, auto, high, original") as refused:
        cap_detail("ultra", BASE)
    assert refused.value.reason == "detail"


def test_count() -> None:
    """As many images as the policy allows pass; one more is refused."""
    check_count(20, BASE)
    with pytest.raises(ImageRefused, match="21 images; at most 20") as refused:
        check_count(21, BASE)
    assert refused.value.reason == "count"


def info(fmt: str = "png", width: int = 1, height: int = 1, **fields: Any) -> ImageInfo:
    return ImageInfo(fmt, width, height, **{"frames": 1, "animated": False} | fields)


@pytest.mark.parametrize(
    ("image", "reason", "code"),
    [
        (info(), None, None),
        (info(width=8000, height=6250), None, None),
        (info(width=8000, height=6251), "pixels", "invalid_value"),
        (info(width=8001), "side", "invalid_value"),
        (info(height=8001), "side", "invalid_value"),
        (info("bmp"), "format", "invalid_image_format"),
        (info("gif", frames=2, animated=True), "frames", "invalid_image_format"),
        (info("gif", frames=None), None, None),
        (info("webp", frames=None, animated=True), "frames", "invalid_image_format"),
    ],
)
def test_check_info(image: ImageInfo, reason: str | None, code: str | None) -> None:
    """Format, sides, pixels and frames are held to the policy, limits included."""
    if reason is None:
        check_info(image, BASE)
        return
    with pytest.raises(ImageRefused) as refused:
        check_info(image, BASE)
    assert (refused.value.reason, refused.value.code) == (reason, code)


def test_judge_data() -> None:
    """A whole image of an allowed format passes, with what was found out."""
    uri = data_uri(make_image("JPEG", 30, 20), "image/jpg")
    assert judge_data(uri, BASE) == ImageInfo("jpeg", 30, 20, 1, animated=False, orientation=1)


def test_judge_dense_data() -> None:
    """A long image of short blocks is judged as a short one is, and refused as one."""
    head, rest = PNG[:33], PNG[33:]
    blocks = png_chunk(b"teXt", b"x" * 300) * 1500
    judged = judge_data(data_uri(head + blocks + rest), BASE)
    assert judged == judge_data(data_uri(PNG), BASE)
    with pytest.raises(ImageRefused) as refused:
        judge_data(data_uri(head + blocks + rest + b"x"), BASE)
    assert refused.value.reason == "trailing_data"


@pytest.mark.parametrize(
    ("uri", "changes", "reason"),
    [
        (data_uri(PNG), {"max_bytes": len(PNG) - 1}, "too_large"),
        (data_uri(PNG), {"formats": frozenset({"gif"})}, "format"),
        (data_uri(PNG, "image/svg+xml"), {}, "format"),
        (data_uri(PNG, "image/gif"), {}, "media_type"),
        (data_uri(b"<svg/>"), {}, "not_an_image"),
        (data_uri(PNG[:-1]), {}, "truncated"),
        (data_uri(PNG + b"x"), {}, "trailing_data"),
        (data_uri(PNG[:16] + bytes(4) + PNG[20:]), {}, "empty"),
        (data_uri(PNG), {"max_side": 7}, "side"),
        (data_uri(make_image("GIF", frames=2), "image/gif"), {}, "frames"),
        ("data:image/png,x", {}, "data_uri"),
        ("data:image/png;base64,x", {}, "base64"),
    ],
)
def test_judge_data_refuses(uri: str, changes: dict[str, Any], reason: str) -> None:
    """An image that is not what it says, not whole or not allowed is refused."""
    with pytest.raises(ImageRefused) as refused:
        judge_data(uri, replace(BASE, **changes))
    assert refused.value.reason == reason


def test_frames_may_be_allowed() -> None:
    """An animation passes where the policy allows as many frames."""
    uri = data_uri(make_image("GIF", frames=3), "image/gif")
    assert judge_data(uri, replace(BASE, max_frames=3)).frames == 3


def test_reasons_are_all_used() -> None:
    """The list of reasons holds no word that nothing is refused for."""
    folder = Path(module.__file__).parent
    source = "".join(p.read_text() for p in folder.rglob("*.py") if p.name != "errors.py")
    assert {reason for reason in REASONS if f'"{reason}"' not in source} == set()


def test_webp_still_and_moving() -> None:
    """Pillow's animated WebP is refused where one frame is allowed, and its still is not."""
    judge_data(data_uri(make_image("WEBP"), "image/webp"), BASE)
    moving = make_image("WEBP", frames=2)
    assert Image.open(io.BytesIO(moving)).n_frames == 2
    with pytest.raises(ImageRefused, match="animated"):
        judge_data(data_uri(moving, "image/webp"), BASE)
