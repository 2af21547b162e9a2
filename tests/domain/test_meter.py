"""The meter, by transcripts of what came in and what went out."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.sse import LARGEST_EVENT, EventTooLarge
from proxy.domain.usage import Outcome, Phase, Usage
from tests.domain.streams import (
    DONE,
    LIES,
    USAGE,
    chunk,
    event,
    meter,
    stream,
    through,
    usage_chunk,
)

HELLO = [chunk(""), chunk("Hello"), chunk()]


def test_the_usage_event_is_withheld() -> None:
    """A client that did not ask gets all but the event that the gateway asked for."""
    metered = meter()
    assert through(metered, [stream(*HELLO, usage_chunk())]) == stream(*HELLO)
    assert metered.outcome() == Outcome(Phase.COMPLETE, Usage(12, 3), 0)


def test_the_usage_event_reaches_who_asked() -> None:
    """A client that asked for usage gets every byte."""
    sent = stream(*HELLO, usage_chunk())
    metered = meter(usage_wanted=True)
    assert through(metered, [sent]) == sent
    assert metered.outcome().usage == Usage(12, 3)


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie is not None])
def test_a_lying_usage_is_withheld_and_not_believed(lie: Any) -> None:
    """A usage event that cannot be believed is kept from the client too, and our count stands."""
    metered = meter()
    assert through(metered, [stream(*HELLO, usage_chunk(lie))]) == stream(*HELLO)
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 5)


@pytest.mark.parametrize("first", [{"usage": None}, {"prompt_filter_results": []}])
def test_empty_choices_without_usage_pass(first: dict[str, Any]) -> None:
    """Empty choices without a usage, or with `null`, are the provider's own business."""
    sent = stream({"choices": [], **first}, chunk("Hi", usage=None), *HELLO)
    assert through(meter(), [sent]) == sent


def test_mistrals_usage_passes_in_the_finish_chunk() -> None:
    """Usage beside a choice is read and passed on."""
    sent = stream(*HELLO[:2], chunk(usage=USAGE))
    metered = meter()
    assert through(metered, [sent]) == sent
    assert metered.outcome().usage == Usage(12, 3)


def test_groqs_usage_is_found() -> None:
    """Usage in x_groq counts, and a usage of the ordinary kind comes before it."""
    metered = meter()
    sent = stream(*HELLO[:2], chunk(x_groq={"id": "x", "usage": USAGE}))
    assert through(metered, [sent]) == sent
    assert metered.outcome().usage == Usage(12, 3)
    both = meter()
    through(both, [stream(chunk(usage=USAGE, x_groq={"usage": {**USAGE, "completion_tokens": 9}}))])
    assert both.outcome().usage == Usage(12, 3)


def test_running_totals_are_not_summed() -> None:
    """Of a usage in every chunk, as vLLM and Gemini send it, the last non-null one counts."""
    totals = [{"prompt_tokens": 12, "completion_tokens": n} for n in (1, 2, 5)]
    metered = meter()
    sent = stream(*(chunk("x", usage=total) for total in totals), chunk(usage=None))
    assert through(metered, [sent]) == sent
    assert metered.outcome() == Outcome(Phase.COMPLETE, Usage(12, 5), 0)


@pytest.mark.parametrize(
    "mark",
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\n\n",
        b"data: [DONE] \r\n\r\n",
        b"data: [DONE]\r\r",
        b"event: done\ndata: [DONE]\n\n",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b"\xef\xbb\xbfdata: [DONE]\n\n",
    ],
)
def test_the_end_mark_in_its_forms(mark: bytes) -> None:
    """The end mark is known however it is written, and passes."""
    metered = meter()
    assert through(metered, [mark]) == mark
    assert metered.complete
    assert metered.outcome().phase is Phase.COMPLETE


@pytest.mark.parametrize(
    "mark", [b": [DONE]\n\n", b"[DONE]\n\n", b'data: "[DONE]"\n\n', event(chunk("[DONE]"))]
)
def test_what_only_quotes_the_end_mark(mark: bytes) -> None:
    """A comment or a text with [DONE] in it does not end a stream."""
    metered = meter()
    assert through(metered, [mark]) == mark
    assert not metered.complete


def test_no_end_mark_is_not_complete() -> None:
    """A stream that just stops is not complete, even with its usage."""
    metered = meter()
    through(metered, [event(chunk("Hi")), event(usage_chunk())])
    assert not metered.complete
    assert metered.outcome() == Outcome(Phase.STREAMING, Usage(12, 3), 0)


@pytest.mark.parametrize(
    ("error", "sent"),
    [({"message": "x"}, True), ("x", True), (None, False), ({}, False)],
)
def test_an_error_event_is_noticed(error: Any, sent: bool) -> None:
    """An error event does not pass, and its data is told; a null error is none, and passes."""
    metered = meter()
    data = event({"error": error, "choices": []})
    assert metered.feed(data) == (b"" if sent else data)
    assert metered.error == (data.removeprefix(b"data: ").rstrip() if sent else None)


@pytest.mark.parametrize("told", [{"error": {"message": "x"}}, "[DONE]"])
@pytest.mark.parametrize("counted", [usage_chunk(), chunk("x" * 40_000)])
@pytest.mark.parametrize("order", [1, -1])
def test_what_passes_around_a_count_is_noticed(told: Any, counted: Any, order: int) -> None:
    """An error or end mark within a read is told, be it before or after what is let go."""
    metered = meter()
    metered.feed(event(chunk("Hi")))
    assert not metered.complete
    for read in (event(told) + event(chunk("!")), event(counted))[::order]:
        metered.feed(read)
    assert metered.complete is (told == "[DONE]")
    assert (metered.error is None) is metered.complete


@pytest.mark.parametrize("nulls", [1, 3])
def test_a_usage_without_spaces(nulls: int) -> None:
    """Null usages pass and the usage is withheld as most servers write them."""
    null, text = b'data: {"usage":null}\n\n' * nulls, b'data: {"choices":["\\"usage\\":"]}\n\n'
    told = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}\n\n'
    reads = [null, text + null, null + told + null, told, null + text, DONE]
    metered = meter()
    assert through(metered, reads) == b"".join(reads).replace(told, b"")
    assert metered.outcome() == Outcome(Phase.COMPLETE, Usage(12, 3), 0)


OTHER_ERRORS: dict[str, Any] = {
    "older vLLM's": {"object": "error", "message": "out of memory", "type": "x", "code": 500},
    "OpenRouter's": chunk("", error={"code": 502, "message": "gone"}),
    "with a null usage": {"error": "gone", "usage": None},
}


@pytest.mark.parametrize("name", OTHER_ERRORS)
@pytest.mark.parametrize("begun", [True, False])
def test_an_error_ends_a_stream(name: str, begun: bool) -> None:
    """From an error on nothing passes, neither text nor an end mark, in whatever shape it comes."""
    before = event(chunk("Hi")) if begun else b": busy\n\n"
    pieces = [before, event(OTHER_ERRORS[name]), event(chunk("x")), DONE, b": x"]
    split, whole = meter(), meter()
    assert through(split, pieces) == through(whole, [b"".join(pieces)]) == before
    assert split.error == whole.error == event(OTHER_ERRORS[name])[6:-2]
    assert not split.complete
    assert split.outcome() == whole.outcome()
    assert split.outcome().delivered == (2 if begun else 0)


@pytest.mark.parametrize("mark", [DONE, b"data:[DONE]\r\n\r\n"])
def test_an_error_in_one_read_with_a_text(mark: bytes) -> None:
    """An error that came in one read with what follows it is known by the end mark at the latest,
    which does not pass.
    """
    metered = meter()
    metered.feed(event(chunk("a")))
    metered.feed(event({"error": "x"}) + event(chunk("b")))
    assert metered.feed(mark) == b""
    assert (metered.complete, metered.error) == (False, b'{"error": "x"}')


def test_an_error_before_the_usual_end() -> None:
    """After an error that was not looked at no end mark passes, though it comes in one read with
    text and usage; the usage is noted.
    """
    metered = meter()
    last = event(chunk("b")) + event({"choices": [], "usage": USAGE})
    metered.feed(event(chunk("a")))
    metered.feed(event({"error": "x", "choices": [{"finish_reason": None}]}).replace(b" ", b""))
    assert DONE not in metered.feed(last + DONE)
    assert (metered.complete, metered.error is not None) == (False, True)
    assert metered.outcome().usage is not None


def test_an_error_after_the_end_mark_is_none() -> None:
    """What comes after the end mark passes as it came."""
    metered = meter()
    pieces = [event(chunk("Hi")) + DONE, event({"error": "late"}), DONE]
    assert through(metered, pieces) == b"".join(pieces)
    assert metered.well


def test_another_call_begins_anew() -> None:
    """Of an attempt that failed nothing is left: neither its error, its text nor its usage."""
    metered = meter()
    metered.called()
    metered.feed(event(usage_chunk()) + event({"error": "x"}) + b"data: half")
    metered.called()
    assert through(metered, [event(chunk("Hi")), DONE]) == event(chunk("Hi")) + DONE
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 2)


def test_an_error_with_usage() -> None:
    """An error is told also where it carries the usage, which counts."""
    metered = meter()
    assert metered.feed(event(usage_chunk(error={"message": "x"}))) == b""
    assert metered.error is not None
    assert metered.outcome().usage == Usage(12, 3)


def test_events_come_out_with_their_last_byte() -> None:
    """What is whole goes out at once; the start of the next event is held until it is."""
    metered = meter()
    first, second = event(chunk("a")), event(chunk("b"))
    assert metered.feed(first + second[:10]) == first
    assert metered.feed(second[10:-1]) == b""
    assert metered.feed(second[-1:]) == second


@pytest.mark.parametrize("odd", [b"\n", b": ping", b"\r", b"data: [DONE"])
def test_a_read_that_ends_after_an_event(odd: bytes) -> None:
    """What follows the blank line in a read is the next event's, though it be a line end."""
    first, usage = event(chunk("a")), event(usage_chunk())
    metered = meter()
    assert metered.feed(first) == first
    assert metered.feed(first + odd) == first
    assert through(metered, [b"\n" + usage]) == through(meter(), [odd + b"\n" + usage])


@pytest.mark.parametrize("text", ["abc", "x" * 50_000])
def test_a_half_event_at_the_end_is_no_answer(text: str) -> None:
    """An event without its end, where the stream is over and not complete, is not counted."""
    metered = meter()
    metered.called()
    half = event(chunk(text)).rstrip()
    assert metered.feed(half) == b""
    assert metered.rest() == half
    assert metered.rest() == b""
    assert metered.outcome() == Outcome(Phase.CALLED, None, 0)


def test_a_half_event_behind_the_end_mark_passes_and_is_counted() -> None:
    """In a stream that is complete an event without its end goes to the client."""
    metered = meter()
    half = event(chunk("abc")).rstrip()
    assert through(metered, [event(chunk("x")) + DONE + half]).endswith(DONE + half)
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 4)


def test_a_half_usage_event_at_the_end_is_withheld() -> None:
    """The usage event is withheld also where the stream ends without its blank line."""
    metered = meter()
    assert through(metered, [event(usage_chunk()).rstrip()]) == b""
    assert metered.outcome().usage == Usage(12, 3)


@pytest.mark.parametrize(
    ("pieces", "well"),
    [
        ([DONE], True),
        ([DONE[:-3], DONE[-3:]], True),
        ([event(chunk("a")) + DONE + event(chunk("b"))], True),
        ([event(chunk("a"))], False),
        ([DONE, b": x"], False),
        ([event({"error": "x"}), DONE], False),
        ([event(chunk("a")) + event({"error": "x"}) + DONE + event(chunk("b"))], False),
    ],
)
def test_what_went_well(pieces: list[bytes], well: bool) -> None:
    """A stream has gone well once its end mark has come, no error has, and no event is begun."""
    metered = meter()
    for piece in pieces:
        metered.feed(piece)
    assert metered.well is well


def test_too_large_an_event_raises() -> None:
    """An event over 8 MiB is a fault, in one read or in several, whole or not."""
    text = "y" * LARGEST_EVENT
    with pytest.raises(EventTooLarge):
        meter().feed(event(chunk(text)))
    with pytest.raises(EventTooLarge):
        meter().feed(b"data: " + text.encode())
    metered = meter()
    metered.feed(b"data: " + text.encode()[:-6])
    with pytest.raises(EventTooLarge):
        metered.feed(b"y")


def test_the_phases() -> None:
    """The phase tells how far a request came."""
    metered = meter(hidden_output=True)
    assert metered.outcome() == Outcome(Phase.NOT_CALLED, None, 0, hidden=True)
    metered.called()
    assert metered.outcome().phase is Phase.CALLED
    metered.feed(event(chunk("x")))
    assert metered.outcome().phase is Phase.STREAMING
    metered.feed(DONE)
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 1, hidden=True)
    other = meter()
    other.called()
    other.refused()
    assert other.outcome() == Outcome(Phase.REFUSED, None, 0)


ERROR = event({"error": {"message": "overloaded"}})
ROLE = event(chunk(""))


@pytest.mark.parametrize(
    ("pieces", "phase"),
    [
        ([ERROR], Phase.REFUSED),
        ([ERROR, DONE], Phase.REFUSED),
        ([b": ping\n\n", ERROR], Phase.REFUSED),
        ([ROLE, ERROR], Phase.REFUSED),
        ([event(chunk("Hi")), ERROR], Phase.STREAMING),
        ([ERROR, event(chunk("Hi"))], Phase.REFUSED),
        ([event(usage_chunk()), ERROR], Phase.STREAMING),
        ([event(usage_chunk(error={"message": "x"}))], Phase.STREAMING),
        ([b": ping\n\n"], Phase.CALLED),
        ([b": ping\n\n", b"event: x\nid: 7\n\ndata:\n\n", event(chunk("Hi"))[:-1]], Phase.CALLED),
        ([b": ping\n\n", ROLE], Phase.STREAMING),
    ],
)
def test_when_an_answer_begins(pieces: list[bytes], phase: Phase) -> None:
    """Comments are no first byte, and an error before any text is refused, not an answer."""
    metered, whole = meter(hidden_output=True), meter(hidden_output=True)
    metered.called()
    whole.called()
    assert b"".join(map(metered.feed, pieces)) == whole.feed(b"".join(pieces))
    assert metered.outcome().phase is whole.outcome().phase is phase


@pytest.mark.parametrize("begun", [True, False])
def test_a_failure_is_refunded_until_the_answer_begins(begun: bool) -> None:
    """An upstream that fails after comments has refused; after its first data it has not."""
    metered = meter()
    metered.called()
    metered.feed(ROLE if begun else b": ping\n\n")
    metered.refused()
    assert metered.outcome().phase is (Phase.STREAMING if begun else Phase.REFUSED)


def test_an_answer_without_text_or_usage_takes_the_reserve() -> None:
    """A whole answer that tells neither text nor usage hides what it cost."""
    empty = meter()
    assert empty.whole(b'{"id":"x","choices":[{"message":{"content":""}}]}')
    assert empty.outcome().hidden
    told = meter()
    assert told.whole(b'{"choices":[{"message":{"content":"Hi"}}]}')
    assert not told.outcome().hidden
