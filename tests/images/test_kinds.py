"""What each kind of provider refuses, refused here first."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from proxy.domain.errors import ImageRefused
from proxy.images.guard import ImageGuard
from proxy.images.kinds import KINDS, limits_of
from proxy.images.policy import ImageLimits, narrowest
from proxy.images.sniff import ImageInfo
from proxy.images.visit import Fetched
from proxy.providers import registry
from proxy.providers.quirks import QUIRKS
from tests.domain.bodies import asks, parse
from tests.images.samples import SAMPLES, data_uri, make_image, make_policy, write_png

#: A policy that is no narrower than any kind.
WIDE = make_policy(max_count=2000, max_bytes=1 << 30, max_side=10_000, max_frames=100)
MOVING = data_uri(SAMPLES["gif-moving"], "image/gif")
WIDE_PNG = data_uri(write_png(2001, 1))


class Linked:
    """A host whose every image is the same, and how many bytes it may have had."""

    def __init__(self, info: ImageInfo) -> None:
        self.info = info
        self.most: set[int] = set()

    async def peek(self, url: str, rules: object, max_bytes: int, key: str) -> ImageInfo:
        self.most.add(max_bytes)
        return self.info

    async def fetch(self, url: str, rules: object, max_bytes: int, key: str) -> Fetched:
        self.most.add(max_bytes)
        return Fetched(make_image("PNG"), self.info)


async def admit(urls: list[str], *kinds: str, mode: str = "inspect", **info: object) -> Linked:
    """Images on their way to providers of these kinds. Raises ImageRefused."""
    shown = replace(ImageInfo("png", 8, 6, 1, animated=False), **info)
    source = Linked(shown)
    guard = ImageGuard(lambda *_: None, source, 1 << 25)
    request = parse(asks(*({"type": "image_url", "image_url": {"url": url}} for url in urls)))
    await guard.admit(request, [replace(WIDE, mode=mode)], key="key", inline=False, kinds=kinds)
    return source


def test_every_kind_has_a_row() -> None:
    """Each row that a kind or a server names is there, for few images and for too many."""
    named = {kind.image_limits for kind in registry.KINDS.values()}
    named |= {server.image_limits for server in QUIRKS.values()}
    assert named - {""} == KINDS.keys()
    for kind, rows in KINDS.items():
        assert [row.max_count for row in rows] == sorted({row.max_count for row in rows})
        assert limits_of(kind, 1) == rows[0]
        assert limits_of(kind, 10**6) == rows[-1]


@pytest.mark.parametrize(("count", "side"), [(1, 8000), (20, 8000), (21, 2000), (601, 2000)])
def test_smaller_where_there_are_many(count: int, side: int) -> None:
    """Anthropic takes 2000 pixels a side where a request has more than 20 images."""
    assert limits_of("anthropic", count).max_side == side


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_only_tighten(kind: str) -> None:
    """A policy and a kind together allow what both do."""
    row, policy = limits_of(kind, 1), make_policy(max_side=9000, formats=frozenset({"png", "bmp"}))
    both = narrowest([policy, row])
    for field in fields(ImageLimits):
        values = getattr(policy, field.name), getattr(row, field.name)
        assert getattr(both, field.name) == (
            values[0] & values[1] if field.name == "formats" else min(values)
        )


@pytest.mark.parametrize(
    ("urls", "kinds", "reason"),
    [
        ([MOVING], ["openai"], "frames"),
        ([MOVING], ["azure", "openai"], "frames"),
        ([WIDE_PNG] * 21, ["anthropic"], "side"),
        ([data_uri(write_png(8001, 1))], ["anthropic"], "side"),
        (["https://pub.example/a"] * 51, ["azure"], "count"),
        (["https://pub.example/a"] * 601, ["anthropic"], "count"),
        ([MOVING], [], None),
        ([MOVING], ["azure", "anthropic"], None),
        ([WIDE_PNG] * 20, ["anthropic"], None),
        ([WIDE_PNG] * 21, ["openai", "azure"], None),
    ],
)
async def test_refused_here_first(urls: list[str], kinds: list[str], reason: str | None) -> None:
    """An image that a provider of its model would refuse is refused, and no other."""
    if reason is None:
        await admit(urls, *kinds)
        return
    with pytest.raises(ImageRefused) as refused:
        await admit(urls, *kinds)
    assert refused.value.reason == reason


@pytest.mark.parametrize("mode", ["inspect", "inline"])
async def test_linked_images_too(mode: str) -> None:
    """What a link leads to is held against the kind, its bytes as well as its pixels."""
    urls = ["https://pub.example/a"]
    assert (await admit(urls, "anthropic", mode=mode)).most == {7_864_320}
    with pytest.raises(ImageRefused, match="at most 8000 a side"):
        await admit(urls, "anthropic", mode=mode, width=8001)
