"""The published cases: every verdict that needs no network."""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any

import pytest
from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import is_public
from proxy.images.policy import REASONS, check_count
from proxy.images.urls import check_redirect, check_url
from tests.images.samples import data_uri, judge_data, load_cases, make_policy

CASES = load_cases("image_urls.yaml")["cases"]
POLICY = make_policy()


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


@lru_cache
def zeros(width: int, height: int) -> bytes:
    """An RGBA PNG of zeros: a hundred rows are compressed, and then repeated."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    rows = packer.compress(bytes(100 * (1 + 4 * width))) + packer.flush(zlib.Z_FULL_FLUSH)
    length = height * (1 + 4 * width)
    check = (length % 65521 << 16 | 1).to_bytes(4)  # Adler-32 of as many zeros
    body = b"\x78\x01" + rows * (height // 100) + packer.flush() + check
    assert height % 100 == 0
    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x06\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def judge(case: dict[str, Any]) -> None:
    """All that is pure of what is done with a URL: its text, its answers, its redirects."""
    url = case["url"]
    if "expand" in case:
        check_count(case["expand"], POLICY)
    elif isinstance(url, str) and url[:5].lower() == "data:":
        judge_data(url, POLICY)
    else:
        resolve(check_url(url, POLICY.urls), case)


def resolve(url: URL, case: dict[str, Any]) -> None:
    for addresses in case.get("needs_dns", {}).values():
        if not addresses or not all(map(is_public, addresses)):
            raise ImageRefused("not_public", "an answer is not public")
    reply = case.get("server", {}).get(case["url"], {})
    if "location" in reply:
        check_redirect(url, reply["location"], POLICY.urls)


PURE = [case for case in CASES if case.get("layer") is None or "expand" in case]


@pytest.mark.parametrize("case", PURE, ids=lambda case: case["id"])
def test_verdict(case: dict[str, Any]) -> None:
    """Every case that needs no network has the verdict that is published for it."""
    if case["verdict"] == "allow":
        judge(case)
        return
    with pytest.raises(ImageRefused) as refused:
        judge(case)
    assert refused.value.reason in REASONS


@pytest.mark.parametrize(
    "case",
    [c for c in PURE if c["verdict"] == "block" and c["category"] != "dns" and c["url"]],
    ids=lambda case: case["id"],
)
def test_message_is_no_echo(case: dict[str, Any]) -> None:
    """A refusal says what is wrong without repeating the URL or its path."""
    with pytest.raises(ImageRefused) as refused:
        judge(case)
    assert case["url"] not in refused.value.message
    assert "/a.png" not in refused.value.message


def test_every_case_is_accounted_for() -> None:
    """What is left out needs a server, or an image that is built below."""
    left = {case["id"] for case in CASES} - {case["id"] for case in PURE}
    assert left == {c["id"] for c in CASES if c["category"] == "fetch" and "expand" not in c} | {
        "image-png-idat-bomb"
    }


def test_header_only_bomb() -> None:
    """A PNG that inflates to 192 MB is judged by its structure and let through."""
    info = judge_data(data_uri(zeros(8000, 6000)), POLICY)
    assert (info.width, info.height, info.frames) == (8000, 6000, 1)


def test_policy_block() -> None:
    """The policy of these tests is the one that the cases were judged by."""
    block = load_cases("image_urls.yaml")["policy"]
    assert set(block["schemes"]) == POLICY.urls.schemes
    assert set(block["ports"]) == POLICY.urls.ports
    assert block["max_image_bytes"] == POLICY.max_bytes
    assert block["max_side"] == POLICY.max_side
    assert block["max_pixels"] == POLICY.max_pixels
    assert block["max_frames"] == POLICY.max_frames
    assert block["max_images_per_request"] == POLICY.max_count
