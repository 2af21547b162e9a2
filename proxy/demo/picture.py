"""The picture in the curl that `visiongate demo` prints."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

SIZE = (64, 48)
_SKY, _GLOW, _SUN, _SEA = range(4)
_PALETTE = bytes((0, 130, 130, 255, 145, 0, 255, 225, 120, 0, 70, 90))


def demo_picture() -> bytes:
    """A 64x48 PNG of a sunset: orange over a dark sea, in a teal sky.

    Four flat colours keep its base64 far below 600 characters, so that a curl with it
    can be pasted.
    """
    image = Image.new("P", SIZE, _SKY)
    image.putpalette(_PALETTE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 28, 63, 35), fill=_GLOW)
    draw.ellipse((22, 18, 42, 38), fill=_SUN)
    draw.rectangle((0, 36, 63, 47), fill=_SEA)
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return png.getvalue()
