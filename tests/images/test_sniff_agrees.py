"""Formats, sizes and frames, held against Pillow and imagesize on images of every kind."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from typing import Any

import imagesize
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from proxy.images.datauri import Base64
from proxy.images.sniff import ImageInfo, SniffError, sniff, walk
from tests.images.mutants import mutants
from tests.images.samples import (
    PNG_COLOURS,
    SAMPLES,
    exif,
    look,
    make_image,
    png_chunk,
    write_png,
)

SMALL = st.integers(1, 100)
LONG = st.integers(1, 9000)
THIN = st.integers(1, 3)
SIZES = st.one_of(st.tuples(SMALL, SMALL), st.tuples(LONG, THIN), st.tuples(THIN, LONG))
PROFILES = st.sampled_from([0, 100, 60_000, 70_000, 300_000]).map(bytes)


@st.composite
def pngs(draw: st.DrawFn) -> bytes:
    """Every colour type and depth, interlaced or not, its data in pieces and behind others."""
    width, height = draw(SIZES)
    colour = draw(st.sampled_from(list(PNG_COLOURS)))
    before = draw(PROFILES)
    return write_png(
        width,
        height,
        colour=colour,
        depth=draw(st.sampled_from(PNG_COLOURS[colour][1])),
        interlaced=draw(st.booleans()),
        before=png_chunk(b"teXt", b"Comment\0" + b" " * len(before)) if before else b"",
        pieces=draw(st.integers(1, 4)),
    )


@st.composite
def apngs(draw: st.DrawFn) -> bytes:
    """Several frames, with or without a picture apart for those that show only one."""
    width, height = draw(SIZES)
    options = {"default_image": draw(st.booleans()), "mode": draw(st.sampled_from(["L", "RGBA"]))}
    return make_image("PNG", width, height, frames=draw(st.integers(2, 5)), **options)


@st.composite
def jpegs(draw: st.DrawFn) -> bytes:
    """Grey, colour and CMYK, baseline and progressive, any orientation, profiles of 300 KB."""
    width, height = draw(SIZES)
    options: dict[str, Any] = {"mode": draw(st.sampled_from(["L", "RGB", "CMYK"]))}
    if orientation := draw(st.integers(0, 8)):
        options["exif"] = exif(orientation)
    if profile := draw(PROFILES):
        options["icc_profile"] = profile
    return make_image(
        "JPEG",
        width,
        height,
        progressive=draw(st.booleans()),
        quality=draw(st.integers(1, 95)),
        subsampling=draw(st.integers(0, 2)),
        comment=draw(st.binary(max_size=40)),
        **options,
    )


@st.composite
def gifs(draw: st.DrawFn) -> bytes:
    """87a and 89a, interlaced or not, still and moving, with loops and comments."""
    width, height = draw(SIZES)
    options: dict[str, Any] = {"interlace": draw(st.booleans())}
    if draw(st.booleans()):
        options["comment"] = b"," * draw(st.integers(1, 600))
    if draw(st.booleans()):
        options["loop"] = 0
    mode = draw(st.sampled_from(["L", "RGB", "RGBA"]))
    return make_image("GIF", width, height, mode=mode, frames=draw(st.integers(1, 5)), **options)


@st.composite
def webps(draw: st.DrawFn) -> bytes:
    """Lossy and lossless, with alpha or without, still and moving, with EXIF, ICC and XMP."""
    width, height = draw(SIZES)
    options: dict[str, Any] = {"lossless": draw(st.booleans()), "method": 0}
    if orientation := draw(st.integers(0, 8)):
        options["exif"] = exif(orientation)
    if draw(st.booleans()):
        options |= {"icc_profile": bytes(101), "xmp": b"<x/>"}
    mode = draw(st.sampled_from(["RGB", "RGBA"]))
    return make_image("WEBP", width, height, mode=mode, frames=draw(st.integers(1, 4)), **options)


STRATEGIES = {"png": pngs(), "apng": apngs(), "jpeg": jpegs(), "gif": gifs(), "webp": webps()}


@pytest.mark.parametrize("images", STRATEGIES.values(), ids=STRATEGIES)
@given(draw=st.data())
def test_sniff_agrees(images: st.SearchStrategy[bytes], draw: st.DataObject) -> None:
    """Format, sides, frames and animation are Pillow's, and imagesize's as it is displayed."""
    agree(draw.draw(images))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour", PNG_COLOURS)
def test_every_png(colour: int, interlaced: bool) -> None:
    """Each colour type and depth is read alike, and is whole to a decoder."""
    for depth in PNG_COLOURS[colour][1]:
        for side in (1, 2, 5, 8, 33):
            data = write_png(side, 9, colour=colour, depth=depth, interlaced=interlaced)
            agree(data)
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()


def agree(data: bytes) -> None:
    """Holds a whole image against the others' reading of it."""
    info, seen = walk(data), sniff(data)
    with Image.open(io.BytesIO(data)) as picture:
        assert info.format.upper() == picture.format
        assert (info.width, info.height) == picture.size == (seen.width, seen.height)
        assert info.frames == getattr(picture, "n_frames", 1)
        assert info.animated == seen.animated == getattr(picture, "is_animated", False)
    turned = info.format == "jpeg" and info.orientation >= 5
    shown = (info.height, info.width) if turned else (info.width, info.height)
    assert imagesize.get(io.BytesIO(data)) == shown


@pytest.mark.parametrize("name", SAMPLES)
@given(draw=st.data())
def test_mutated(name: str, draw: st.DataObject) -> None:
    """Bits flipped, lengths that lie, cuts and splices give an answer or a SniffError."""
    data = draw.draw(mutants([SAMPLES[name]]))
    for reader in (sniff, walk):
        seen = look(reader, data)
        if isinstance(seen, SniffError):
            assert seen.reason in ("not_an_image", "truncated", "trailing_data", "empty")
        else:
            assert seen.width > 0
            assert seen.height > 0
            assert seen.frames is None or seen.frames > 0
            assert 1 <= seen.orientation <= 8


@pytest.mark.parametrize("name", SAMPLES)
@given(draw=st.data())
def test_as_base64(name: str, draw: st.DataObject) -> None:
    """An image that is decoded only where it is looked at is the same, and is as faulty."""
    data = draw.draw(mutants([SAMPLES[name]]))
    expected = look(walk, data)
    seen = look(lambda raw: walk(Base64(base64.b64encode(raw))), data)
    if isinstance(expected, SniffError):
        assert isinstance(seen, SniffError)
        assert seen.reason == expected.reason
    else:
        assert seen == expected


#: What a hostile file is full of: as many blocks as its bytes can hold.
BLOCKS = {
    "png": (SAMPLES["png"][:33], bytes(4) + b"teXt" + bytes(4)),
    "apng": (SAMPLES["png"][:33], bytes(4) + b"fcTL" + bytes(4)),
    "jpeg": (b"\xff\xd8\xff", b"\xff\xe0\0\x02"),
    "jpeg-alone": (b"\xff\xd8\xff", b"\xff\xd0"),
    "jpeg-fill": (b"\xff\xd8", b"\xff"),
    "jpeg-exif": (b"\xff\xd8\xff\xe1\xff\xffExif\0\0II*\0\x08\0\0\0\xff\xff", b"\0"),
    "gif": (SAMPLES["gif"][: SAMPLES["gif"].index(b"\x2c") + 11], b"\x01x"),
    "gif-extensions": (SAMPLES["gif"][: SAMPLES["gif"].index(b"\x2c")], b"\x21\xfe\0"),
    "webp": (b"RIFF\0\0\xff\0WEBPVP8X\x0a\0\0\0" + bytes(10), b"skip" + bytes(4)),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("reader", [sniff, walk])
def test_bounded_work(name: str, reader: Callable[[bytes], ImageInfo]) -> None:
    """A file of nothing but headers costs no more steps than the same bytes of pixels may."""
    head, block = BLOCKS[name]
    data = head + block * (400_000 // len(block))
    steps = 0

    def count(frame: Any, event: str, arg: Any) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        look(reader, data)
    finally:
        sys.settrace(before)
    assert 0 < steps <= 20 * (4096 + len(data) // 128)
