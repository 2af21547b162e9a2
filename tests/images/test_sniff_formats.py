"""What each format's structure allows and does not."""

from __future__ import annotations

import struct

import pytest

from proxy.images.sniff import ImageInfo, NeedMore, NotAnImage, sniff, walk
from tests.images.samples import SAMPLES, exif, make_image


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
    assert sniff(data[:40]).frames is None


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


def test_gif_frame_over_the_screen() -> None:
    """A GIF's size is that of its largest frame if the screen is smaller."""
    data = SAMPLES["gif"]
    at = data.index(b"\x2c" + bytes(4) + struct.pack("<HH", 8, 6))
    grown = data[:at] + b"\x2c" + struct.pack("<HHHH", 1, 2, 60_000, 50_000) + data[at + 9 :]
    assert (sniff(grown).width, sniff(grown).height) == (8, 6)
    assert (walk(grown).width, walk(grown).height) == (60_001, 50_002)


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
