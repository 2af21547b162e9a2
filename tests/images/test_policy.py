"""The policy of images."""

from __future__ import annotations

import io
import re
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
    judge_data,
    tighten,
)
from proxy.images.rewrite import RewriteRule
from proxy.images.sniff import ImageInfo
from tests.images.samples import data_uri, make_image, make_policy

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


@pytest.mark.parametrize(
    ("uri", "changes", "reason"),
    [
        (data_uri(PNG), {"urls": replace(BASE.urls, schemes=frozenset({"https"}))}, "scheme"),
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


UPGRADE = RewriteRule.parse("http://", "https://")
TO_CDN = RewriteRule.parse("https://a.example/", "https://cdn.example/")


def test_tighten_itself() -> None:
    """A plan that changes nothing is the base."""
    base = replace(BASE, detail_cap="high", detail_default="low", rewrite=(UPGRADE,))
    assert tighten(base, base) == base


def test_tighten() -> None:
    """What a plan narrows is narrowed; denied hosts and rewrites add up."""
    base = replace(
        with_urls(BASE, deny=("bad.example",)), rewrite=(UPGRADE,), detail_default="high"
    )
    plan = replace(
        with_urls(base, deny=("worse.example",), allow=("*.cdn.example",), ports=frozenset({443})),
        mode="inline",
        formats=frozenset({"png"}),
        max_side=100,
        detail_default=None,
        detail_cap="low",
        rewrite=(TO_CDN,),
    )
    policy = tighten(base, plan)
    assert policy.urls.deny == ("bad.example", "worse.example")
    assert policy.urls.allow == ("*.cdn.example",)
    assert policy.rewrite == (UPGRADE, TO_CDN)
    assert (policy.mode, policy.max_side, policy.formats) == ("inline", 100, frozenset({"png"}))
    assert (policy.detail_default, policy.detail_cap) == ("high", "low")
    assert cap_detail(None, policy) == "low"


def test_tighten_keeps_the_cap() -> None:
    """A plan that says nothing of a cap has the base's."""
    assert tighten(replace(BASE, detail_cap="low"), BASE).detail_cap == "low"


NARROW = replace(
    with_urls(
        BASE,
        schemes=frozenset({"https"}),
        ports=frozenset({443}),
        allow=("*.cdn.example", "one.example", "8.8.0.0/16"),
        internal=("10.1.0.0/16",),
    ),
    formats=frozenset({"png"}),
    detail_cap="high",
)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (replace(NARROW, mode="url"), "mode"),
        (with_urls(NARROW, schemes=frozenset({"http", "https"})), "schemes"),
        (with_urls(NARROW, ports=frozenset({443, 8443})), "ports"),
        (with_urls(NARROW, allow=("*",)), "hosts.allow"),
        (with_urls(NARROW, allow=("*.example",)), "hosts.allow"),
        (with_urls(NARROW, allow=("cdn.example",)), "hosts.allow"),
        (with_urls(NARROW, allow=("8.0.0.0/8",)), "hosts.allow"),
        (with_urls(NARROW, allow=("2000::/3",)), "hosts.allow"),
        (with_urls(NARROW, internal=("10.1.0.0/16", "assets.corp")), "hosts.internal"),
        (replace(NARROW, formats=frozenset({"png", "gif"})), "formats"),
        (replace(NARROW, max_count=21), "max_count"),
        (replace(NARROW, max_bytes=NARROW.max_bytes + 1), "max_bytes"),
        (replace(NARROW, max_pixels=NARROW.max_pixels + 1), "max_pixels"),
        (replace(NARROW, max_side=8001), "max_side"),
        (replace(NARROW, max_frames=2), "max_frames"),
        (replace(NARROW, detail_cap="original"), "detail.cap"),
        (replace(NARROW, detail_cap="auto"), "detail.cap"),
    ],
)
def test_loosening(plan: ImagePolicy, field: str) -> None:
    """A plan that allows more than the base is an error that names the field."""
    with pytest.raises(ValueError, match=rf"^images\.{re.escape(field)}: "):
        tighten(NARROW, plan)


@pytest.mark.parametrize(
    "allow",
    [
        *(
            ("a.cdn.example",),
            ("*.x.cdn.example",),
            ("*.cdn.example",),
            ("8.8.4.0/24",),
            ("8.8.8.8",),
        ),
        *((), ("one.example", "a.cdn.example")),
    ],
)
def test_narrower_hosts(allow: tuple[str, ...]) -> None:
    """Names under an allowed suffix and parts of an allowed network are narrower."""
    assert tighten(NARROW, with_urls(NARROW, allow=allow)).urls.allow == allow


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
