"""Cutting a stream into events, wherever the reads end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.domain import sse
from proxy.domain.sse import EventSplitter, EventTooLarge, data_of
from tests.domain.streams import cut, reads

STREAMS = st.lists(
    st.sampled_from((b"\r", b"\n", b"\r\n", b"\n\n", b"data: x", b": c", b"\xef\xbb\xbf", b"\xff"))
).map(b"".join)


@settings(max_examples=3 * settings().max_examples)
@given(STREAMS, st.lists(st.integers(0, 60)))
def test_events_are_the_same_for_every_split(stream: bytes, cuts: list[int]) -> None:
    """However it is read, a stream falls into the same events, and no byte is lost."""
    splitter = EventSplitter()
    events = [event for piece in reads(stream, cuts) for event in splitter.feed(piece)]
    rest = splitter.rest()
    assert b"".join(events) + rest == stream
    assert [*events, rest] if rest else events == cut(stream)
    assert not splitter.held


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\n\n", b"\n\r\n"])
def test_an_event_is_out_with_its_last_byte(end: bytes) -> None:
    """An event is not held until the next one comes."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: x" + end[:-1]) == []
    assert splitter.feed(end[-1:]) == [b"data: x" + end]
    assert not splitter.held


def test_a_trailing_cr_waits_for_its_lf() -> None:
    """A CR at the end of a read may be half of a CRLF, so the event keeps both."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: x\r\r") == []
    assert splitter.feed(b"\n") == [b"data: x\r\r\n"]
    assert splitter.feed(b"data: y\r\r") == []
    assert splitter.feed(b"data: z\n\n") == [b"data: y\r\r", b"data: z\n\n"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_too_large_an_event_is_a_fault(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """One byte over the limit raises, in however many reads it comes, and one less does not."""
    monkeypatch.setattr(sse, "LARGEST_EVENT", 100)
    fits = b"d" * 98 + b"\n\n"
    splitter = EventSplitter()
    found = [e for piece in reads(fits, list(range(0, 100, size))) for e in splitter.feed(piece)]
    assert found == [fits]
    large = b"d" + fits
    splitter = EventSplitter()
    with pytest.raises(EventTooLarge):
        list(map(splitter.feed, reads(large, list(range(0, 101, size)))))


def test_an_endless_event_of_8_mib_raises() -> None:
    """An event without an end is given up at 8 MiB; reading it costs by its length alone."""
    splitter = EventSplitter()
    block = b"x" * 1024
    for _ in range(8 * 1024):
        assert splitter.feed(block) == []
    assert len(splitter.held) == sse.LARGEST_EVENT
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\r\n\r\n", b"x"),
        (b"data:  x\r\r", b" x"),
        (b"data\n\n", b""),
        (b"data: a\rdata: b\n\n", b"a\nb"),
        (b"data:\ndata:\n\n", b"\n"),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b": data: x\n\n", None),
        (b"event: error\nid: 1\n\n", None),
        (b"event: error\ndata: x\n\n", b"x"),
        (b"Data: x\n\n", None),
        (b" data: x\n\n", None),
        (b"datax: y\n\n", None),
        (b"\n\n", None),
        (b"data: a:b: c\n\n", b"a:b: c"),
        (b"data: x", b"x"),
    ],
)
def test_data_of_an_event(event: bytes, data: bytes | None) -> None:
    """The data lines are joined by LF, each without its one leading space."""
    assert data_of(event) == data


def test_an_event_made_here_is_read_here() -> None:
    """What `event` writes is one event with that data."""
    made = sse.event(b'{"a": 1}')
    assert EventSplitter().feed(made) == [made]
    assert data_of(made) == b'{"a": 1}'
