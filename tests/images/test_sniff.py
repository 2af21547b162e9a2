"""Formats, sizes and structure from bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.images.sniff import ImageInfo, NeedMore, NotAnImage, SniffError, format_of, sniff, walk
from tests.images.samples import SAMPLES, look

each_sample = pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)


@each_sample
def test_views(data: bytes) -> None:
    """Bytes and a view of them give the same answer."""
    assert sniff(memoryview(data)) == sniff(data)
    assert walk(memoryview(data)) == walk(data)
    assert format_of(memoryview(data)) == format_of(data) is not None


@each_sample
def test_every_beginning(data: bytes) -> None:
    """The beginning of an image asks for more until it tells the size, and never lies."""
    whole = sniff(data)
    lengths = [*range(min(len(data), 700)), len(data)]
    looks = [look(sniff, data[:length]) for length in lengths]
    silent = [seen for seen in looks if isinstance(seen, SniffError)]
    for length, seen in zip(lengths, silent, strict=False):
        assert isinstance(seen, NeedMore)
        assert length < seen.needed <= len(data)
    told = looks[len(silent) :]
    assert {(seen.width, seen.height) for seen in told} == {(whole.width, whole.height)}
    assert {seen.frames for seen in told} <= {None, whole.frames}


@each_sample
def test_truncated(data: bytes) -> None:
    """An image without its last bytes is truncated, wherever it is cut."""
    for length in {0, 1, 11, 12, 13, 29, 30, len(data) // 2, len(data) - 2, len(data) - 1}:
        with pytest.raises(NeedMore) as short:
            walk(data[:length])
        assert short.value.reason == "truncated"
        assert short.value.needed > length


TAILS = {
    "zip": b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18),
    "page": b"<script>alert(1)</script>",
    "image": SAMPLES["png"],
    "byte": b"\0\0",
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
@each_sample
def test_data_after_the_end(data: bytes, tail: bytes) -> None:
    """What else could be read of the same bytes is refused, but in JPEG: phones append films."""
    if format_of(data) == "jpeg":
        assert walk(data + tail) == walk(data)
        return
    with pytest.raises(NotAnImage) as refused:
        walk(data + tail)
    assert refused.value.reason == "trailing_data"


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x40\0\0\0WEBP"]


@given(st.sampled_from(MAGIC), st.binary(max_size=80))
def test_noise(magic: bytes, noise: bytes) -> None:
    """Noise, also after an image's first bytes, raises nothing but SniffError."""
    for reader in (sniff, walk):
        assert isinstance(look(reader, magic + noise), ImageInfo | SniffError)


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7\n%....", b"<html>", b"BM" + bytes(30), b"RIFF....WAVEfmt "]
)
def test_not_an_image(data: bytes) -> None:
    """Other files are told apart by their first bytes."""
    assert format_of(data) is None
    with pytest.raises(NotAnImage):
        sniff(data)


@pytest.mark.parametrize("fill", [1, 5, 6, 7, 8, 9, 13, 14, 15, 70_000])
def test_fill_bytes(fill: int) -> None:
    """A JPEG's markers may have any number of fill bytes before them, and nothing else."""
    data = SAMPLES["jpeg"]
    filled = data[:2] + b"\xff" * fill + data[2:]
    assert sniff(filled) == walk(filled) == walk(data)
    for cut, error in (
        (filled[: 2 + fill], NeedMore),
        (data[:3] + b"\xff" * fill + b"\0", NotAnImage),
    ):
        with pytest.raises(error):
            walk(cut)
