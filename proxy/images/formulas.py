"""How vendors count the tokens of an image: one class for each way.

All arithmetic is in integers, so that a count does not depend on a float's last bit.
Each `largest` is a bound that no image exceeds with that detail, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final, Protocol


class ImageFormula(Protocol):
    """`detail` is low, auto, high or original; sides are in pixels, from 1."""

    def tokens(self, width: int, height: int, detail: str) -> int: ...

    def largest(self, detail: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Flat:
    """The same for every image: for models whose rule is not known."""

    rate: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        return self.rate

    def largest(self, detail: str) -> int:
        return self.rate


@dataclass(frozen=True, slots=True)
class Tiles:
    """OpenAI until GPT-5.1: a base, and tiles of 512 px once the image is shrunk.

    It is shrunk to fit 2048x2048, then to a short side of 768, and never enlarged; `low`
    costs the base alone.
    Source: https://platform.openai.com/docs/guides/images-vision
    """

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        if detail == "low":
            return self.base
        width, height = _fit(width, height, 2048)
        short = min(width, height)
        if short > 768:
            width, height = _scale(width, 768, short), _scale(height, 768, short)
        return self.base + self.tile * _ceil(width, 512) * _ceil(height, 512)

    def largest(self, detail: str) -> int:
        return self.base + (0 if detail == "low" else self.tile * 4 * 2)


@dataclass(frozen=True, slots=True)
class Sizing:
    """The longest edge in pixels, then the most patches, that an image is shrunk to."""

    edge: int
    patches: int


@dataclass(frozen=True, slots=True)
class Patches:
    """OpenAI since GPT-4.1 mini: patches of 32 px, times a multiplier in hundredths.

    Source: https://developers.openai.com/api/docs/guides/images-vision
    """

    percent: int
    low: Sizing
    auto: Sizing
    high: Sizing
    original: Sizing

    def tokens(self, width: int, height: int, detail: str) -> int:
        sizing = self._sizing(detail)
        width, height = _fit(width, height, sizing.edge)
        patches = _ceil(width, 32) * _ceil(height, 32)
        if patches > sizing.patches:
            patches = _shrunk(width, height, sizing.patches)
        return self._price(patches)

    def largest(self, detail: str) -> int:
        sizing = self._sizing(detail)
        return self._price(min(sizing.patches, _ceil(sizing.edge, 32) ** 2))

    def _sizing(self, detail: str) -> Sizing:
        sizings = {"low": self.low, "high": self.high, "original": self.original}
        return sizings.get(detail, self.auto)

    def _price(self, patches: int) -> int:
        return _ceil(patches * self.percent, 100)


@dataclass(frozen=True, slots=True)
class Squares:
    """Anthropic: squares of 28 px, after a resize to an edge and a count of squares.

    Of all sizes with the image's shape, the largest that fits both; detail plays no part.
    Source: https://docs.claude.com/en/docs/build-with-claude/vision
    """

    edge: int
    most: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        long, short = max(width, height), min(width, height)

        def squares(edge: int) -> int:
            return _ceil(edge, 28) * _ceil(_scale(short, edge, long), 28)

        fits, beyond = 1, min(long, self.edge) + 1
        if squares(beyond - 1) <= self.most:
            return squares(beyond - 1)
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if squares(middle) <= self.most:
                fits = middle
            else:
                beyond = middle
        return squares(fits)

    def largest(self, detail: str) -> int:
        return self.most


@dataclass(frozen=True, slots=True)
class CropTiles:
    """Gemini 1.5 to 2.5: tiles whose side follows the image's short side.

    Images over 3072 px are shrunk to that first.
    Source: https://ai.google.dev/gemini-api/docs/image-understanding
    """

    tile: int = 258

    def tokens(self, width: int, height: int, detail: str) -> int:
        width, height = _fit(width, height, 3072)
        if width <= 384 and height <= 384:
            return self.tile
        side = min(768, max(256, min(width, height) * 2 // 3))
        return self.tile * _ceil(width, side) * _ceil(height, side)

    def largest(self, detail: str) -> int:
        # Twelve tiles of 256 px along 3072, and two across: a wider image has wider tiles.
        return self.tile * 24


#: Media resolutions by the detail that asks for them; the vendor's own names too.
_GEMINI_3: Final = {"low": 280, "medium": 560, "original": 2240, "ultra_high": 2240}


@dataclass(frozen=True, slots=True)
class Allotment:
    """Gemini 3: up to an allotment, by media resolution and whatever the size.

    Source: https://ai.google.dev/gemini-api/docs/media-resolution
    """

    default: int = 1120

    def tokens(self, width: int, height: int, detail: str) -> int:
        return self.largest(detail)

    def largest(self, detail: str) -> int:
        return _GEMINI_3.get(detail, self.default)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)


def _scale(number: int, to: int, of: int) -> int:
    """number x to / of, rounded to nearest, but never to nothing."""
    return max(1, (2 * number * to + of) // (2 * of))


def _fit(width: int, height: int, edge: int) -> tuple[int, int]:
    """The size after a shrink to fit a square."""
    long = max(width, height)
    if long <= edge:
        return width, height
    return _scale(width, edge, long), _scale(height, edge, long)


def _shrunk(width: int, height: int, budget: int) -> int:
    """Patches of an image shrunk to a budget, then a little more until one side is whole.

    That side loses less than a patch, and the other one keeps the shape, rounded up; so
    the product stays within the budget.
    """
    across = max(1, isqrt(budget * width // height))
    down = max(1, isqrt(budget * height // width))
    if across * height <= down * width:
        return min(budget, across * _ceil(across * height, width))
    return min(budget, down * _ceil(down * width, height))
