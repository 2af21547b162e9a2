"""Anthropic's streams, cut anywhere and spoilt in any way."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.anthropic.answer import Answer
from tests.providers.anthropic.spoilt import SPOILT, STREAMS, check_translation


@cache
def translated(name: str) -> bytes:
    return Answer(1).feed(STREAMS[name])


@pytest.mark.parametrize("name", STREAMS)
@given(
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    bom=st.booleans(),
)
def test_cuts_and_line_ends(name: str, cuts: list[int], end: bytes, bom: bool) -> None:
    """However its bytes are cut, and whatever ends its lines, a stream says the same."""
    came = (b"\xef\xbb\xbf" if bom else b"") + STREAMS[name].replace(b"\n", end)
    bounds = [0, *sorted(min(cut, len(came)) for cut in cuts), len(came)]
    answer = Answer(1)
    told = [answer.feed(came[a:b]) for a, b in pairwise(bounds)]
    assert b"".join(told) == translated(name)


@pytest.mark.parametrize("name", STREAMS)
def test_byte_by_byte(name: str) -> None:
    """What is fed is out as soon as its event is whole, and only then."""
    answer, told = Answer(1), b""
    for byte in STREAMS[name].replace(b"\n", b"\r"):
        told += answer.feed(bytes([byte]))
    assert told == translated(name)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut(name: str) -> None:
    """Wherever a stream is cut, its end mark comes only where all of it has come."""
    came = STREAMS[name]
    for size in range(len(came) - 1):
        assert not Answer(1).feed(came[:size]).endswith(b"data: [DONE]\n\n")


@given(SPOILT)
def test_a_spoilt_stream(came: bytes) -> None:
    """No server makes the translator fail but by its own errors, or say what is no answer."""
    check_translation(came)
