"""Formats, sizes and structure from bytes, held against Pillow and imagesize."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagesize
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxy.images.sniff import ImageInfo, NeedMore, NotAnImage, SniffError, format_of, sniff, walk
from tests.images.samples import KINDS, SAMPLES, make_image


def look(reader: Callable[[bytes], ImageInfo], data: bytes) -> ImageInfo | SniffError:
    """What a reader finds, or its own error; any other error fails the test."""
    try:
        return reader(data)
    except SniffError as error:
        return error


each_sample = pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)


@settings(max_examples=60)
@given(st.sampled_from(list(KINDS)), st.integers(1, 300), st.integers(1, 300))
def test_against_others(kind: str, width: int, height: int) -> None:
    """Format, size and frames are Pillow's; imagesize's size is that as it is displayed."""
    data = make_image(width=width, height=height, **KINDS[kind])
    info = walk(data)
    with Image.open(io.BytesIO(data)) as picture:
        assert info.format.upper() == picture.format
        assert (info.width, info.height) == picture.size
        assert info.frames == getattr(picture, "n_frames", 1)
        assert info.animated == getattr(picture, "is_animated", False)
    shown = (height, width) if info.orientation >= 5 else (width, height)
    assert imagesize.get(io.BytesIO(data)) == shown
    assert (sniff(data).width, sniff(data).height) == (width, height)


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


@each_sample
def test_data_after_the_end(data: bytes) -> None:
    """Data after the end is refused, but for JPEG, where phones append films."""
    polyglot = data + b"PK\x03\x04" + bytes(30)
    if format_of(data) == "jpeg":
        assert walk(polyglot) == walk(data)
        return
    with pytest.raises(NotAnImage) as refused:
        walk(polyglot)
    assert refused.value.reason == "trailing_data"


@each_sample
@settings(max_examples=40)
@given(seed=st.data())
def test_mutated(data: bytes, seed: st.DataObject) -> None:
    """Bytes changed, cut out or put in give an answer or a SniffError."""
    mutated = bytearray(data[:2000])
    for _ in range(seed.draw(st.integers(1, 4))):
        at = seed.draw(st.integers(0, len(mutated)))
        cut = seed.draw(st.integers(0, 4))
        mutated[at : at + cut] = seed.draw(st.binary(max_size=6))
    for reader in (sniff, walk):
        seen = look(reader, bytes(mutated))
        if isinstance(seen, SniffError):
            assert seen.reason in ("not_an_image", "truncated", "trailing_data", "empty")
        else:
            assert seen.width > 0
            assert seen.height > 0
            assert 1 <= seen.orientation <= 8


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
