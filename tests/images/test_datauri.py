"""data: URIs."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import ImageRefused
from proxy.images.datauri import DataImage, parse_data_uri


def reason(uri: str, max_bytes: int = 100) -> str:
    with pytest.raises(ImageRefused) as refused:
        parse_data_uri(uri, max_bytes)
    return refused.value.reason


@given(st.binary(min_size=1, max_size=100))
def test_round_trip(data: bytes) -> None:
    """Any bytes come back from their base64, whatever the case of the type."""
    text = base64.b64encode(data).decode()
    assert parse_data_uri(f"DATA:Image/PNG;BASE64,{text}", 100) == DataImage("image/png", data)


def test_parameters() -> None:
    """Parameters of the media type are allowed before base64."""
    uri = "data:image/jpeg;charset=utf-8;name=a.jpg;base64,AAAA"
    assert parse_data_uri(uri, 3) == DataImage("image/jpeg", b"\0\0\0")


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
