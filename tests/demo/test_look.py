"""What the demo says of an image is true, and of anything else that it is none."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxy.demo.look import COLOURS, MAX_PIXELS, colour_name, look, see
from proxy.demo.picture import demo_picture

UNREADABLE = "The image could not be read as a PNG, JPEG, GIF or WebP."
TOO_LARGE = "The image has too many pixels for this demo to look at."


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def empty_png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and which holds no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(
    ("format", "name"), [("PNG", "PNG"), ("JPEG", "JPEG"), ("GIF", "GIF"), ("WEBP", "WebP")]
)
def test_format_and_size_are_told(format: str, name: str) -> None:
    """The sentence names the format, the width before the height, and the colour."""
    data = encoded(Image.new("RGB", (64, 48), (0, 128, 128)), format)
    assert look(data) == (f"The image is a {name} of 64 by 48 pixels; its dominant colour is teal.")


def test_the_size_is_the_files_own() -> None:
    """A large JPEG is told with its full size, though it is decoded small."""
    sight = see(encoded(Image.new("RGB", (3000, 2000), (255, 0, 0)), "JPEG"))
    assert sight.size == (3000, 2000)
    assert "3000 by 2000 pixels; its dominant colour is red." in sight.sentence


@pytest.mark.parametrize("name", COLOURS)
def test_each_named_colour_is_itself(name: str) -> None:
    """An image of one colour of the table is told with that colour's name."""
    assert look(encoded(Image.new("RGB", (3, 2), COLOURS[name]))).endswith(f"colour is {name}.")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("ff0000", "red"),
        ("0000ff", "blue"),
        ("ff8000", "orange"),
        ("87ceeb", "light blue"),
        ("e0e0e0", "light grey"),
        ("1f1f1f", "dark grey"),
        ("8b4513", "brown"),
        ("228b22", "green"),
        ("ff69b4", "hot pink"),
    ],
)
def test_other_colours_get_a_near_name(code: str, name: str) -> None:
    """A colour between those of the table gets the name that people would give it."""
    assert colour_name(*bytes.fromhex(code)) == name


@pytest.mark.parametrize(
    ("mode", "colour", "name"),
    [
        ("1", 1, "white"),
        ("L", 128, "grey"),
        ("I;16", 0x8080, "grey"),
        ("LA", (128, 255), "grey"),
        ("RGBA", (0, 0, 255, 255), "blue"),
    ],
)
def test_every_mode_keeps_its_colour(mode: str, colour: Any, name: str) -> None:
    """Bilevel, grey, 16-bit and alpha images are told with the colour that they show."""
    assert look(encoded(Image.new(mode, (9, 9), colour))).endswith(f"colour is {name}.")


def test_cmyk_keeps_its_colour() -> None:
    """A CMYK JPEG is told with the colour that it shows."""
    data = encoded(Image.new("CMYK", (9, 9), (255, 0, 0, 0)), "JPEG")
    assert look(data).endswith("colour is cyan.")


def test_the_dominant_colour_is_one_of_the_image() -> None:
    """Two thirds red and a third blue is red, not the purple between them."""
    image = Image.new("RGB", (300, 300), "blue")
    image.paste("red", (0, 0, 200, 300))
    assert look(encoded(image)).endswith("colour is red.")


def test_the_colour_of_a_fine_pattern_is_not_mixed() -> None:
    """Two red columns to each blue one are red, however fine."""
    image = Image.new("RGB", (300, 300), "red")
    for column in range(0, 300, 3):
        image.paste("blue", (column, 0, column + 1, 300))
    assert look(encoded(image)).endswith("colour is red.")


def test_a_faint_colour_counts_less() -> None:
    """Pixels weigh as much as they are opaque."""
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 20))
    image.paste((0, 0, 255, 255), (0, 0, 40, 10))
    assert look(encoded(image)).endswith("colour is blue.")


def test_transparent_pixels_do_not_count() -> None:
    """The colour under transparent pixels is not told, nor any where all are transparent."""
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert look(encoded(image)).endswith("40 by 40 pixels; it looks fully transparent.")
    image.paste((0, 0, 255, 255), (0, 0, 5, 5))
    assert look(encoded(image)).endswith("colour is blue.")


def test_an_animation_is_told_by_its_first_frame() -> None:
    """An animated GIF is called so, with the colour of its first frame."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert look(data) == (
        "The image is an animated GIF of 8 by 8 pixels; its first frame's dominant colour is red."
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(Image.new("RGB", (9, 9)), "BMP"),
        empty_png(9, 9),
    ],
    ids=["nothing", "text", "postscript", "bmp", "no pixels"],
)
def test_what_is_no_image_is_told_so(data: bytes) -> None:
    """Bytes that are none of the four formats, or hold no pixels, could not be read."""
    assert look(data) == UNREADABLE
    assert see(data).size is None


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_told_so(format: str) -> None:
    """Half a file could not be read."""
    data = encoded(Image.effect_noise((90, 90), 80), format)
    assert look(data[: len(data) // 2]) == UNREADABLE


@pytest.mark.parametrize("side", [7_072, 10_000, 60_000])
def test_a_bomb_is_not_decoded(side: int) -> None:
    """An image over MAX_PIXELS is refused by its header, below and above Pillow's own limits."""
    assert side * side > MAX_PIXELS
    assert look(empty_png(side, side)) == TOO_LARGE


def test_a_bomb_prints_no_warning() -> None:
    """What Pillow only warns of is refused without a word on standard error."""
    code = "import sys; from proxy.demo.look import look; print(look(sys.stdin.buffer.read()))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=empty_png(10_000, 10_000), capture_output=True, check=True)
    assert (done.stdout.decode().strip(), done.stderr) == (TOO_LARGE, b"")


@settings(max_examples=60, deadline=None)
@given(
    format=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=8),
)
def test_damage_raises_nothing(format: str, place: float, junk: bytes) -> None:
    """Whatever bytes of an image are overwritten, the answer is a sentence."""
    data = bytearray(encoded(Image.new("RGB", (20, 20), "red"), format))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    assert look(bytes(data)).startswith("The image ")


def test_the_demo_picture_can_be_pasted() -> None:
    """The demo's picture is a teal PNG of 64 by 48, below 600 characters of base64."""
    picture = demo_picture()
    assert len(base64.b64encode(picture)) < 600
    assert look(picture) == "The image is a PNG of 64 by 48 pixels; its dominant colour is teal."
