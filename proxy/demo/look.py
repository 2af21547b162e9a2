"""One true sentence about an image, from its bytes alone.

The work is bounded: only the four formats of the API are opened, at most MAX_PIXELS are
decoded, and the colour is judged on a grid of at most SAMPLES x SAMPLES pixels.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import Image

MAX_PIXELS: Final = 50_000_000
#: A prime, so that regular patterns do not fall in step with the grid.
SAMPLES: Final = 61

COLOURS: Final = {
    "black": (0, 0, 0),
    "dark grey": (64, 64, 64),
    "grey": (128, 128, 128),
    "light grey": (205, 205, 205),
    "white": (255, 255, 255),
    "dark red": (125, 0, 0),
    "red": (230, 0, 0),
    "salmon": (250, 135, 120),
    "pink": (255, 185, 205),
    "hot pink": (255, 90, 180),
    "brown": (125, 70, 25),
    "tan": (205, 175, 135),
    "beige": (245, 240, 220),
    "orange": (255, 145, 0),
    "gold": (235, 195, 20),
    "yellow": (255, 250, 0),
    "olive": (125, 125, 0),
    "lime": (0, 250, 0),
    "light green": (150, 235, 150),
    "green": (0, 140, 0),
    "dark green": (0, 70, 0),
    "teal": (0, 130, 130),
    "turquoise": (60, 215, 200),
    "cyan": (0, 250, 255),
    "light blue": (155, 205, 240),
    "blue": (0, 40, 245),
    "navy": (0, 0, 110),
    "purple": (125, 0, 130),
    "violet": (185, 130, 240),
    "magenta": (250, 0, 250),
}

_NAMES = {"PNG": "PNG", "JPEG": "JPEG", "MPO": "JPEG", "GIF": "GIF", "WEBP": "WebP"}
_UNREADABLE = "The image could not be read as a PNG, JPEG, GIF or WebP."
_TOO_LARGE = "The image has too many pixels for this demo to look at."

# Between one and two times its own limit Pillow only warns.
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen: a sentence, and the size in pixels if the image could be read."""

    sentence: str
    size: tuple[int, int] | None = None


def look(data: bytes) -> str:
    """A true sentence about the image; of bytes that are none, that they could not be read."""
    return see(data).sentence


def see(data: bytes) -> Sight:
    """Look at a PNG, JPEG, GIF or WebP; raises nothing, whatever the bytes."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            return _describe(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Sight(_TOO_LARGE)
    except Exception:  # on hostile bytes Pillow's plugins raise nearly anything
        return Sight(_UNREADABLE)


@lru_cache(maxsize=4096)
def colour_name(red: int, green: int, blue: int) -> str:
    """The nearest of COLOURS, by distance in Oklab; sRGB components 0 to 255."""
    seen = _oklab(red, green, blue)
    return min(_LABS, key=lambda name: math.dist(seen, _LABS[name]))


def _describe(image: Image.Image) -> Sight:
    width, height = size = image.size
    if width * height > MAX_PIXELS:
        return Sight(_TOO_LARGE)
    kind = _NAMES[str(image.format)]
    # An MPO's other frames are previews, not an animation.
    moves = image.format != "MPO" and getattr(image, "is_animated", False)
    colour = _dominant(image)
    subject = f"The image is {'an animated' if moves else 'a'} {kind} of {width} by {height} pixels"
    if colour is None:
        return Sight(f"{subject}; it looks fully transparent.", size)
    whose = "its first frame's" if moves else "its"
    return Sight(f"{subject}; {whose} dominant colour is {colour}.", size)


def _dominant(image: Image.Image) -> str | None:
    """The colour name with the most pixels, each weighed by its alpha; None if all are clear."""
    image.draft(None, (SAMPLES, SAMPLES))  # a JPEG is decoded at an eighth of its size
    grid = (min(SAMPLES, image.width), min(SAMPLES, image.height))
    small = image.resize(grid, Image.Resampling.NEAREST)
    if small.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
        small = small.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    rgba = small.convert("RGBA").tobytes()
    weights: Counter[str] = Counter()
    for red, green, blue, alpha in zip(*(rgba[i::4] for i in range(4)), strict=True):
        if alpha:
            weights[colour_name(red & 0xFC, green & 0xFC, blue & 0xFC)] += alpha
    return weights.most_common(1)[0][0] if weights else None


def _oklab(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """sRGB to Oklab, its chroma doubled: hue names a colour more than lightness does.

    Source: https://bottosson.github.io/posts/oklab/
    """
    r, g, b = (_linear(part / 255) for part in (red, green, blue))
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        2 * (1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short),
        2 * (0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short),
    )


def _linear(part: float) -> float:
    """The sRGB transfer function undone. Source: IEC 61966-2-1."""
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


_LABS = {name: _oklab(*rgb) for name, rgb in COLOURS.items()}
