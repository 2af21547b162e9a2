"""For any stream and any split of it into reads: what passes, and what is counted."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.domain.meter import StreamMeter
from proxy.domain.usage import Outcome, Phase
from tests.domain.streams import LIES, STREAMS, cut, meter, objects, reads, through

CUTS = st.lists(st.integers(0, 400), max_size=12)
EVERYTHING = settings(max_examples=3 * settings().max_examples)


def is_withheld(value: Any) -> bool:
    """The event with the usage that the gateway asked for on its own account."""
    if not isinstance(value, dict) or value.get("choices") != [] or value.get("error"):
        return False
    return value.get("usage") is not None or believed(value) is not None


def up_to_an_error(stream: bytes) -> list[tuple[bytes, Any]]:
    """The events before the first error, of which there is none after an end mark."""
    found, complete = [], False
    for piece, value in objects(stream):
        if isinstance(value, dict) and value.get("error") and not complete:
            break
        complete |= value == "[DONE]"
        found.append((piece, value))
    return found


def passes(stream: bytes, *, usage_wanted: bool = False) -> bytes:
    """What a client is to get."""
    events = up_to_an_error(stream)
    return b"".join(piece for piece, value in events if usage_wanted or not is_withheld(value))


def failed(stream: bytes) -> bool:
    return len(up_to_an_error(stream)) < len(objects(stream))


def believed(value: Any) -> Any:
    """The usage that an event tells, if it can be believed."""
    groq = value.get("x_groq") or {}
    told = [value.get("usage"), groq.get("usage")]
    return next((usage for usage in told if isinstance(usage, dict) and usage not in LIES), None)


@EVERYTHING
@given(STREAMS, CUTS)
def test_all_but_the_usage_event_passes(stream: bytes, cuts: list[int]) -> None:
    """The client gets every byte but those of the withheld events, for any split, up to an error;
    which itself passes at most where a read has more behind it.
    """
    expected = passes(stream)
    assert through(meter(), [stream]) == expected
    assert through(meter(), [bytes([byte]) for byte in stream]) == expected
    split = through(meter(), reads(stream, cuts))
    assert split == expected or (split.startswith(expected) and failed(stream))


@EVERYTHING
@given(STREAMS, CUTS)
def test_nothing_is_withheld_from_who_asked(stream: bytes, cuts: list[int]) -> None:
    """A client that asked for usage gets the stream byte for byte, up to an error."""
    expected = passes(stream, usage_wanted=True)
    assert (expected == stream) is not failed(stream)
    split = through(meter(usage_wanted=True), reads(stream, cuts))
    assert split == expected or (split.startswith(expected) and failed(stream))


@EVERYTHING
@given(STREAMS, CUTS)
def test_what_is_known_does_not_depend_on_the_split(stream: bytes, cuts: list[int]) -> None:
    """The outcome, the end mark and the error are the same for any split; what was delivered
    behind an error, in one read with it, is charged.
    """
    split, whole = meter(), meter()
    came = through(split, reads(stream, cuts))
    through(whole, [stream])
    assert known(split)[1:] == known(whole)[1:]
    assert split.outcome() == whole.outcome() or came != passes(stream)


@EVERYTHING
@given(STREAMS, st.lists(st.integers(0, 400), max_size=4))
def test_looking_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    """The outcome may be asked for at any time, as renewals do, without a change to it."""
    looked, left = meter(), meter()
    for piece in reads(stream, cuts):
        looked.feed(piece)
        looked.outcome()
        left.feed(piece)
    looked.rest()
    left.rest()
    assert known(looked) == known(left)


@EVERYTHING
@given(STREAMS)
def test_the_stream_is_understood(stream: bytes) -> None:
    """The last usage, the end mark and errors are those that a second reader finds."""
    metered = meter()
    through(metered, [stream])
    values = [value for _, value in up_to_an_error(stream)]
    chunks = [value for value in values if isinstance(value, dict)]
    assert metered.well == (metered.complete and metered.error is None)
    assert metered.complete == ("[DONE]" in values)
    assert (metered.error is not None) == failed(stream)
    usages = [usage for usage in map(believed, chunks) if usage is not None]
    told = metered.outcome().usage
    if not usages:
        assert told is None
    else:
        assert told is not None
        assert (told.input, told.output) == (12, usages[-1]["completion_tokens"])


@EVERYTHING
@given(STREAMS)
def test_text_is_counted_since_the_last_usage(stream: bytes) -> None:
    """What is delivered after the last believable usage is counted, and no more: nobody gets an
    event without an end where the end mark is missing.
    """
    metered = meter()
    through(metered, [stream])
    count, last = 0, len(objects(stream)) - 1
    for at, (piece, value) in enumerate(up_to_an_error(stream)):
        if isinstance(value, dict):
            ended = at < last or (not piece.endswith(b"\r") and len(cut(piece + b"data: x")) > 1)
            for choice in value.get("choices", []) if ended or metered.complete else []:
                if isinstance(choice, dict):
                    count += len(choice["delta"].get("content", "").encode())
            if believed(value) is not None:
                count = 0
    assert metered.outcome().delivered == count


@given(st.binary(max_size=80), CUTS)
def test_garbage_passes(stream: bytes, cuts: list[int]) -> None:
    """Bytes that are no stream at all pass untouched, and charge nothing."""
    assume(b"[DONE]" not in stream)  # an end mark is no garbage
    metered = meter()
    metered.called()
    assert through(metered, reads(stream, cuts)) == stream
    outcome = metered.outcome()
    assert outcome == Outcome(outcome.phase, None, 0)
    assert outcome.phase in (Phase.CALLED, Phase.STREAMING)


def known(metered: StreamMeter) -> tuple[object, ...]:
    return metered.outcome(), metered.complete, metered.error
