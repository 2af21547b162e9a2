"""What each kind of provider refuses, so that it is refused here first.

The table is data of its date: a provider changes its limits, and what it gives away is lost only
to those who send too much. Where sources differ, the widest is taken.
"""

from __future__ import annotations

from typing import Final

from proxy.images.policy import ImageLimits

VERSION: Final = "2026-11"

_ANY: Final = 2**63  # where a kind says nothing, or takes the first frame of many


def _row(count: int, max_bytes: int, *, side: int = _ANY, frames: int = _ANY) -> ImageLimits:
    return ImageLimits(
        formats=frozenset({"png", "jpeg", "gif", "webp"}),
        max_count=count,
        max_bytes=max_bytes,
        max_pixels=_ANY,
        max_side=side,
        max_frames=frames,
    )


#: A provider's rows by how many images a request holds: the first whose `max_count` is enough.
KINDS: Final[dict[str, tuple[ImageLimits, ...]]] = {
    # No animated GIF, 1500 images, 512 MB of a request.
    # Source: https://developers.openai.com/api/docs/guides/images-vision
    "openai": (_row(1500, 512 << 20, frames=1),),
    # 50 images of 20 MB; of an animation the first frame.
    # Source: https://learn.microsoft.com/azure/ai-foundry/openai/quotas-limits
    "azure": (_row(50, 20 << 20),),
    # 10 MB in base64, 8000 pixels a side and 600 images, but 2000 pixels where they are more
    # than 20; of an animation the first frame.
    # Source: https://platform.claude.com/docs/en/build-with-claude/vision
    "anthropic": (
        _row(20, (10 << 20) // 4 * 3, side=8000),
        _row(600, (10 << 20) // 4 * 3, side=2000),
    ),
}


def limits_of(kind: str, count: int) -> ImageLimits:
    """What a kind of provider (openai, azure, anthropic) takes of a request with `count` images."""
    rows = KINDS[kind]
    return next((row for row in rows if count <= row.max_count), rows[-1])
