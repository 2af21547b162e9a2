"""What an image costs in tokens, by model.

The table is data of its date: vendors change their counting, so prices settle on what
the upstream reports, and these counts are for reserving before it has.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from proxy.images.formulas import (
    Allotment,
    CropTiles,
    Flat,
    ImageFormula,
    Patches,
    Sizing,
    Squares,
    Tiles,
)

__all__ = ["FORMULAS", "VERSION", "ImageFormula", "formula_for", "image_tokens", "largest"]

VERSION: Final = "2026-11"

#: For models that no row below fits; more than most vision models take for one image.
UNKNOWN: Final = Flat(5000)

_HALF: Final = Sizing(512, 256)
_HIGH: Final = Sizing(2048, 2500)
_ORIGINAL: Final = Sizing(6000, 10_000)
#: Not resized: above 30,000 patches the upstream refuses the image and charges nothing.
_UNRESIZED: Final = Sizing(65_535, 30_000)


def _whatever_detail(percent: int) -> Patches:
    sizing = Sizing(2048, 6144)
    return Patches(percent, low=sizing, auto=sizing, high=sizing, original=sizing)


_TILES_85: Final = Tiles(85, 170)
_TILES_70: Final = Tiles(70, 140)
_TILES_75: Final = Tiles(75, 150)
_PATCHES: Final = _whatever_detail(120)
_GPT_5_4: Final = Patches(120, low=_HALF, auto=_HIGH, high=_HIGH, original=_ORIGINAL)
_GPT_5_5: Final = Patches(120, low=_HALF, auto=_ORIGINAL, high=_HIGH, original=_ORIGINAL)
_GPT_5_6: Final = Patches(120, low=_HALF, auto=_UNRESIZED, high=_HIGH, original=_UNRESIZED)
_CLAUDE: Final = Squares(1568, 1568)
_CLAUDE_4_7: Final = Squares(2576, 4784)
_GEMINI_2: Final = CropTiles()
_GEMINI_3: Final = Allotment()

#: A model's row is the longest of these that begins its name and ends at a `-`, `:` or
#: `@` of it. A vendor's bare name stands for what is newer than the table, at the
#: newest, dearest rule.
FORMULAS: Final[dict[str, ImageFormula]] = {
    "gpt": _GPT_5_6,
    "gpt-4": _TILES_85,
    "gpt-4o": _TILES_85,
    "chatgpt-4o": _TILES_85,
    "gpt-4o-mini": Tiles(2833, 5667),
    "gpt-4.1": _TILES_85,
    "gpt-4.1-mini": _whatever_detail(162),
    "gpt-4.1-nano": _whatever_detail(246),
    "gpt-4.5": _TILES_85,
    "gpt-5": _TILES_70,
    "gpt-5-mini": _PATCHES,
    "gpt-5-nano": _whatever_detail(150),
    "gpt-5-codex-mini": _PATCHES,
    "gpt-5.1": _TILES_70,
    "gpt-5.1-codex-mini": _PATCHES,
    "gpt-5.2": _PATCHES,
    "gpt-5.3": _PATCHES,
    "gpt-5.4": _GPT_5_4,
    "gpt-5.5": _GPT_5_5,
    "gpt-5.6": _GPT_5_6,
    "o1": _TILES_75,
    "o3": _TILES_75,
    "o4-mini": _whatever_detail(172),
    "computer-use-preview": Tiles(65, 129),
    "claude": _CLAUDE_4_7,
    "claude-2": _CLAUDE,
    "claude-instant": _CLAUDE,
    "claude-3": _CLAUDE,
    "claude-opus-4-0": _CLAUDE,
    "claude-opus-4-1": _CLAUDE,
    "claude-opus-4-5": _CLAUDE,
    "claude-opus-4-6": _CLAUDE,
    "claude-opus-4-20250514": _CLAUDE,
    "claude-sonnet-4-0": _CLAUDE,
    "claude-sonnet-4-5": _CLAUDE,
    "claude-sonnet-4-6": _CLAUDE,
    "claude-sonnet-4-20250514": _CLAUDE,
    "claude-haiku-4-5": _CLAUDE,
    "gemini": _GEMINI_3,
    "gemini-1.5": _GEMINI_2,
    "gemini-2.0": _GEMINI_2,
    "gemini-2.5": _GEMINI_2,
    "gemini-3": _GEMINI_3,
}


@lru_cache(maxsize=1024)
def formula_for(model: str) -> ImageFormula:
    """The formula of a model's name, dated, fine-tuned or with a vendor before it."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:").rpartition("anthropic.")[2]
    while name:
        if name in FORMULAS:
            return FORMULAS[name]
        name = name[: max(0, *(name.rfind(end) for end in "-:@"))]
    return UNKNOWN


def image_tokens(formula: ImageFormula, width: int, height: int, detail: str | None) -> int:
    """Tokens of an image of these pixels; no detail is the model's default, auto."""
    return formula.tokens(max(1, width), max(1, height), detail or "auto")


def largest(formula: ImageFormula, detail: str | None) -> int:
    """The most tokens that any image costs with that detail."""
    return formula.largest(detail or "auto")
