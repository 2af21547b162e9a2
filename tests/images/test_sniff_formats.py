"""What each format's structure allows and does not."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random

import pytest
from PIL import Image

from proxy.images.sniff import ImageInfo, NeedMore, NotAnImage, sniff, walk
from tests.images.samples import SAMPLES, exif, make_image, write_png


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """A JPEG's EXIF orientation is noted and its size left as stored."""
    data = make_image("JPEG", 40, 30, exif=exif(orientation))
    assert sniff(data) == walk(data) == ImageInfo("jpeg", 40, 30, 1, False, orientation)


def app1(body: bytes) -> bytes:
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body


@pytest.mark.parametrize(
    ("tiff", "expected"),
    [
        (b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 8),
        (b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0", 1),
        (b"II*\0\xff\xff\xff\xff", 1),
        (b"II*\0\x08\0\0\0\xff\xff", 1),
        (b"XX", 1),
        (b"", 1),
    ],
)
def test_strange_exif(tiff: bytes, expected: int) -> None:
    """EXIF of either byte order is read, and what makes no sense is taken for upright."""
    data = make_image("JPEG")
    assert sniff(data[:2] + app1(b"Exif\0\0" + tiff) + data[2:]).orientation == expected


def test_frame_header_far_away() -> None:
    """A frame header behind 200 KB of profile is found, and asked for until then."""
    data = SAMPLES["jpeg-profile"]
    with pytest.raises(NeedMore) as short:
        sniff(data[:100_000])
    assert short.value.needed > 100_000
    assert sniff(data).orientation == 6


@pytest.mark.parametrize("marker", [n for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC)])
def test_every_frame_marker(marker: int) -> None:
    """Each of the thirteen SOF markers tells the size."""
    frame = bytes([0xFF, marker]) + b"\0\x0b\x08\0\x14\0\x1e\x01\x01\x11\0"
    info = sniff(b"\xff\xd8\xff\xff\xff" + frame)
    assert (info.width, info.height) == (30, 20)


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC])
def test_other_markers_between(marker: int) -> None:
    """DHT, JPG and DAC are not frames, though their codes are among the frames'."""
    data = make_image("JPEG")
    assert sniff(data[:2] + bytes([0xFF, marker]) + b"\0\x0b" + bytes(9) + data[2:]).width == 8


def test_two_frame_headers() -> None:
    """A JPEG with two sizes is refused."""
    data = make_image("JPEG")
    frame = b"\xff\xc0\0\x0b\x08\x27\x10\x27\x10\x01\x01\x11\0"
    with pytest.raises(NotAnImage):
        walk(data[:2] + frame + data[2:])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xd8\xff\xc0",
        b"\xff\xd8\xff\xe0\0\x01",
        b"\xff\xd8\xff\xe0\0\x02\0\0",
        b"\xff\xd8\xff\xda\0\x02\xff\xd9",
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 5000,
    ],
)
def test_broken_jpeg(data: bytes) -> None:
    """A JPEG that ends, begins again or scans before its frame header is none."""
    with pytest.raises(NotAnImage):
        sniff(data)


@pytest.mark.parametrize(
    "data",
    [
        SAMPLES["png"][:16] + bytes(4) + SAMPLES["png"][20:],
        SAMPLES["gif"][:6] + bytes(2) + SAMPLES["gif"][8:],
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x1e\x01\x01\x11\0",
    ],
    ids=["png", "gif", "jpeg"],
)
def test_no_pixels(data: bytes) -> None:
    """An image with a side of zero is refused as empty."""
    with pytest.raises(NotAnImage) as refused:
        sniff(data)
    assert refused.value.reason == "empty"


def test_apng_frames_from_the_header() -> None:
    """An animated PNG tells its frames as soon as the first pixels begin."""
    data = SAMPLES["apng"]
    begin = data.index(b"IDAT") + 4
    assert sniff(data[:begin]).frames == 3
    assert sniff(data[:begin]).animated
    assert sniff(data[: begin - 8]).animated
    assert sniff(data[: begin - 8]).frames is sniff(data[:40]).frames is None


def test_apng_that_lies() -> None:
    """An animated PNG that declares one frame and holds three has three."""
    data = SAMPLES["apng"]
    at = data.index(b"acTL") + 4
    assert walk(data[:at] + (1).to_bytes(4) + data[at + 4 :]).frames == 3


@pytest.mark.parametrize("name", ["IDAT", "IEND"])
def test_png_without(name: str) -> None:
    """A PNG without pixels is none, and one without an end is truncated."""
    data = SAMPLES["png"]
    at = data.index(name.encode()) - 4
    length = int.from_bytes(data[at : at + 4])
    with pytest.raises(NotAnImage if name == "IDAT" else NeedMore):
        walk(data[:at] + data[at + 12 + length :])


@pytest.mark.parametrize("apart", [False, True])
def test_apng_with_a_picture_apart(apart: bool) -> None:
    """The picture that an animated PNG has for those that show no animation is a frame more."""
    data = make_image("PNG", frames=3, default_image=apart)
    assert sniff(data).frames == walk(data).frames == 3
    shown = data.index(b"fcTL") < data.index(b"IDAT")
    assert shown is not apart


def test_gif_frame_over_the_screen() -> None:
    """A GIF's size is that of its largest frame if the screen is smaller."""
    data = SAMPLES["gif"]
    at = data.index(b"\x2c" + bytes(4) + struct.pack("<HH", 8, 6))
    grown = data[:at] + b"\x2c" + struct.pack("<HHHH", 1, 2, 60, 50) + data[at + 9 :]
    assert (sniff(grown).width, sniff(grown).height) == (8, 6)
    assert (walk(grown).width, walk(grown).height) == (61, 52)


def large_gif(frames: int, **options: object) -> bytes:
    """A GIF whose first frame goes beyond what is looked through."""
    noise = Random(1).randbytes(40_000)
    pictures = [Image.frombytes("L", (200, 200), noise), Image.new("L", (200, 200), 9)][:frames]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()


def test_gif_second_frame_far_away() -> None:
    """Where the second frame of a GIF is too far to see, it is animated if it repeats itself."""
    still, moving, repeated = large_gif(1), large_gif(2), large_gif(2, loop=0)
    looks = [sniff(data) for data in (still, moving, repeated)]
    assert [(seen.frames, seen.animated) for seen in looks] == [
        *((None, False), (None, False), (None, True)),
    ]
    assert sniff(repeated[: 16 << 10]) == looks[2]
    with pytest.raises(NeedMore):
        sniff(repeated[: (16 << 10) - 1])


def solid(fmt: str, **options: object) -> bytes:
    """As few bytes for as many pixels as an encoder makes."""
    return make_image(fmt, 2000, 2000, mode="L", **options)


SOLID = {
    "png": write_png(2000, 2000, colour=0, depth=1),
    "png-packed": write_png(2000, 2000, colour=6, depth=16),
    "png-stored": write_png(20, 2000, pixels=zlib.compress(bytes(61 * 2000), 0)),
    "jpeg": solid("JPEG", quality=1, optimize=True),
    "jpeg-progressive": solid("JPEG", quality=1, progressive=True),
    "gif": solid("GIF"),
    "webp": solid("WEBP", method=0),
}


@pytest.mark.parametrize("data", SOLID.values(), ids=SOLID)
def test_few_bytes_for_many_pixels(data: bytes) -> None:
    """An image of one colour has as many pixels as it says."""
    info = walk(data)
    assert info.width * info.height == (40_000 if info.width == 20 else 4_000_000)


def declare(data: bytes, place: bytes, offset: int, code: str, side: int) -> bytes:
    """The image with another width and height where it declares them."""
    at = data.index(place) + offset
    sides = struct.pack(code, side, side)
    return data[:at] + sides + data[at + len(sides) :]


BOMBS = {
    "png": declare(SAMPLES["png"], b"IHDR", 4, ">II", 7000),
    "apng": declare(SAMPLES["apng"], b"IHDR", 4, ">II", 7000),
    "jpeg": declare(SAMPLES["jpeg"], b"\xff\xc0", 5, ">HH", 7000),
    "jpeg-progressive": declare(SAMPLES["jpeg-progressive"], b"\xff\xc2", 5, ">HH", 7000),
    "gif": declare(SAMPLES["gif"], b"\x2c\0\0\0\0\x08\0", 5, "<HH", 7000),
    "webp": SAMPLES["webp"][:20] + b"\xf0\xff\xff" + SAMPLES["webp"][23:],
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bombs(data: bytes) -> None:
    """An image that declares more pixels than its bytes can hold is truncated."""
    with pytest.raises(NeedMore) as short:
        walk(data)
    assert short.value.needed > len(data)


def test_more_than_the_pixels() -> None:
    """A PNG of one pixel that has the data of millions is refused."""
    with pytest.raises(NotAnImage) as refused:
        walk(write_png(1, 1, pixels=zlib.compress(bytes(10_000_000), 9)))
    assert refused.value.reason == "trailing_data"


@pytest.mark.parametrize(("colour", "depth"), [(1, 8), (2, 4), (3, 16), (6, 0), (7, 8)])
def test_no_such_pixels(colour: int, depth: int) -> None:
    """A PNG whose colour type and depth do not go together is none."""
    data = write_png(3, 3)
    with pytest.raises(NotAnImage) as refused:
        walk(data[:24] + bytes([depth, colour]) + data[26:])
    assert refused.value.reason == "not_an_image"


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(n + len(c).to_bytes(4, "little") + c + b"\0" * (len(c) & 1) for n, c in chunks)
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


CANVAS = bytes(4) + b"\x07\0\0\x05\0\0"
LOSSLESS = b"\x2f" + (0x3FFF | 0x3FFF << 14).to_bytes(4, "little") + bytes(4)


def test_webp_bitstream_over_the_canvas() -> None:
    """A WebP whose pixels are more than its canvas is as large as its pixels."""
    data = riff((b"VP8X", CANVAS), (b"VP8L", LOSSLESS))
    assert (sniff(data).width, sniff(data).height) == (8, 6)
    assert (walk(data).width, walk(data).height) == (16_384, 16_384)


@pytest.mark.parametrize(
    "data",
    [
        riff((b"VP8X", CANVAS)),
        riff((b"VP8X", b"\x02" + CANVAS[1:]), (b"VP8L", LOSSLESS)),
        riff((b"VP8X", CANVAS), (b"VP8L", b"\x2f")),
        riff((b"VP8L", b"\0" * 10)),
        riff((b"VP8 ", b"\x01\0\0\x9d\x01\x2a\x08\0\x06\0")),
        riff((b"VP8 ", b"\0\0\0\x9d\x01\x2b\x08\0\x06\0")),
        riff((b"ICCP", bytes(20))),
    ],
)
def test_broken_webp(data: bytes) -> None:
    """A WebP without pixels, or with a bitstream that is none, is refused."""
    with pytest.raises(NotAnImage):
        walk(data)


def test_webp_padding() -> None:
    """A last chunk of odd length may miss its padding, or have it outside RIFF's size."""
    data = riff((b"VP8L", LOSSLESS))
    size = (len(data) - 9).to_bytes(4, "little")
    bare = data[:4] + size + data[8:-1]
    assert walk(data) == walk(bare) == walk(bare + b"\0")


BLOCKS = {
    "png": SAMPLES["png"][:33] + b"\0\0\0\0teXt\0\0\0\0" * 60_000,
    "gif": SAMPLES["gif"][: SAMPLES["gif"].index(b"\x2c") + 11] + b"\x01x" * 60_000,
    "webp": riff((b"VP8X", CANVAS), *[(b"skip", b"")] * 60_000),
}


@pytest.mark.parametrize("data", BLOCKS.values(), ids=BLOCKS)
def test_all_headers(data: bytes) -> None:
    """A file that is nothing but block headers is given up before its end."""
    with pytest.raises(NotAnImage):
        walk(data)
