"""data: URIs."""

from __future__ import annotations

import base64
import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.chat import split_data
from proxy.domain.errors import ImageRefused
from proxy.domain.steps import STEP, finish
from proxy.images.datauri import Base64, DataImage, Dense, encode_base64
from proxy.images.datauri import parse_data_uri as parsing


def parse_data_uri(uri: str, max_bytes: int) -> DataImage:
    head, data = split_data(uri)
    return finish(parsing(head, data or b"", max_bytes))


def held(uri: str, max_bytes: int = 100) -> tuple[str, bytes]:
    """The media type and the bytes of a data: URI."""
    image = parse_data_uri(uri, max_bytes)
    return image.media_type, image.data[:]


def reason(uri: str, max_bytes: int = 100) -> str:
    with pytest.raises(ImageRefused) as refused:
        parse_data_uri(uri, max_bytes)
    return refused.value.reason


@given(st.binary(min_size=1, max_size=100))
def test_round_trip(data: bytes) -> None:
    """Any bytes come back from their base64, whatever the case of the type."""
    text = base64.b64encode(data).decode()
    assert held(f"DATA:Image/PNG;BASE64,{text}") == ("image/png", data)


def test_parameters() -> None:
    """Parameters of the media type are allowed before base64."""
    uri = "data:image/jpeg;charset=utf-8;name=a.jpg;base64,AAAA"
    assert held(uri, 3) == ("image/jpeg", b"\0\0\0")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:,AAAA", "data_uri"),
        ("data:;base64,AAAA", "data_uri"),
        ("data:image/png,AAAA", "data_uri"),
        ("data:image/png;base64", "data_uri"),
        ("data:image/png;base64;x=1,AAAA", "data_uri"),
        ("data:image/png ;base64,AAAA", "data_uri"),
        ("data:image/png;base64" + ";x=1" * 99 + ",AAAA", "data_uri"),
        ("https://pub.example/,AAAA", "data_uri"),
        ("", "data_uri"),
        ("data:image/png;base64,", "base64"),
        ("data:image/png;base64,AAA", "base64"),
        ("data:image/png;base64,AA==AAAA", "base64"),
        ("data:image/png;base64,A===", "base64"),
        ("data:image/png;base64,AAB=", "base64"),
        ("data:image/png;base64,AB==", "base64"),
        ("data:image/png;base64,====", "base64"),
        ("data:image/png;base64,AA\nAA==", "base64"),
        ("data:image/png;base64, AAA", "base64"),
        ("data:image/png;base64,AA-_", "base64"),
        ("data:image/png;base64,AA%3D", "base64"),
        ("data:image/png;base64,AAAé", "base64"),
    ],
)
def test_refused(uri: str, expected: str) -> None:
    """Anything but a media type, base64 and a comma before strict base64 is refused."""
    assert reason(uri) == expected


@pytest.mark.parametrize("size", [97, 98, 99, 100, 101, 102])
def test_size(size: int) -> None:
    """The cap counts decoded bytes, whatever the padding."""
    uri = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    if size <= 100:
        assert len(parse_data_uri(uri, 100).data) == size
    else:
        assert reason(uri) == "too_large"


def test_size_before_content() -> None:
    """Too much is refused by its length alone: what it holds is not looked at."""
    assert reason("data:image/png;base64," + "*" * 1000) == "too_large"


def long_text(size: int = 3 * STEP) -> bytes:
    """The base64 of so many bytes: several steps of it."""
    return base64.b64encode(bytes(range(256)) * (size // 256))


def test_a_long_image_is_read_in_steps() -> None:
    """However many steps it takes, what comes out is what went in; a view is as good."""
    text = long_text()
    steps = parsing("data:image/png;base64,", memoryview(text), len(text))
    assert sum(1 for _ in steps) == len(text) // STEP - (len(text) % STEP == 0)
    image = finish(parsing("data:image/png;base64,", memoryview(text), len(text)))
    data = finish(image.data.decode())
    assert data == base64.b64decode(text)
    assert finish(encode_base64(data)) == text


@pytest.mark.parametrize("at", [STEP - 4, STEP, 2 * STEP - 4, 3 * STEP - 4])
@pytest.mark.parametrize("odd", [b"AAA=", b"AA==", b"A===", b"====", b"AA\nA", b"AA-_"])
def test_steps_hide_nothing(at: int, odd: bytes) -> None:
    """What is not strict base64 is refused wherever a step ends."""
    text = long_text()
    text = text[:at] + odd + text[at + 4 :]
    with pytest.raises(ImageRefused) as refused:
        finish(parsing("data:image/png;base64,", text, len(text)))
    assert refused.value.reason == "base64"


@given(st.binary(max_size=200))
def test_encoding(data: bytes) -> None:
    """What is sent inline is the standard base64."""
    assert finish(encode_base64(data)) == base64.b64encode(data)


@given(st.binary(max_size=50), st.slices(60))
def test_a_look_decodes_what_it_sees(data: bytes, where: slice) -> None:
    """A slice of base64 is the slice of its bytes, in front, in the middle and beyond the end."""
    start, stop, _ = where.indices(60)
    found = Base64(base64.b64encode(data))
    assert found[start:stop] == data[start:stop]
    assert found[start:] == data[start:]
    assert len(found) == len(data)


@pytest.mark.parametrize(("size", "most"), [(1, 1024), (64 << 10, 4)])
def test_looks_have_an_end(size: int, most: int) -> None:
    """Neither many looks nor long ones cost more than decoding a part of a megabyte."""
    image = Base64(b"A" * (1 << 20))
    with pytest.raises(Dense):
        collections.deque((image[:size] for _ in range(most)), maxlen=0)
