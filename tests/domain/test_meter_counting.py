"""Counting what was delivered, for when no usage comes, and answers without a stream."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from proxy.domain import meter as module
from proxy.domain.meter import StreamMeter
from proxy.domain.texts import Texts
from proxy.domain.tokenizer import Tokenizer, tokenizer_for
from proxy.domain.usage import Outcome, Phase, Usage
from tests.domain.streams import DONE, STREAMS, USAGE, chunk, event, meter, usage_chunk


def test_what_comes_after_the_usage_is_counted() -> None:
    """A stream that breaks off after an early usage has its later text counted by us."""
    metered = meter()
    metered.feed(event(chunk("abc", usage={"prompt_tokens": 12, "completion_tokens": 1})))
    metered.feed(event(chunk("defg")) + event(chunk("h")))
    assert metered.outcome() == Outcome(Phase.STREAMING, Usage(12, 1), 5)


def test_text_of_one_read_with_the_usage() -> None:
    """What came before the usage in the same read is the usage's, what came after is ours."""
    metered = meter()
    early = chunk(usage={"prompt_tokens": 12, "completion_tokens": 1})
    metered.feed(b"".join(map(event, [chunk("abc"), early, chunk("de")])))
    assert metered.outcome().delivered == 2


@pytest.mark.parametrize(
    ("delta", "count"),
    [
        ({"role": "assistant", "content": ""}, 0),
        ({"role": "assistant", "content": "Hello"}, 5),
        ({"content": "café"}, 5),
        ({"content": None, "refusal": "No."}, 3),
        ({"reasoning_content": "Hmm"}, 3),
        ({"reasoning": "Hmm", "content": "x"}, 4),
        ({"reasoning": "Hmm", "reasoning_content": "Hmm"}, 3),
        ({"reasoning": "Hmm", "reasoning_details": [{"type": "r", "text": "Hmm"}]}, 3),
        ({"reasoning": None, "reasoning_content": "Hmm"}, 3),
        ({"content": [{"type": "text", "text": "Hi"}]}, 2),
        ({"function_call": {"name": "f", "arguments": "{}"}}, 3),
        (
            {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {}}]},
            0,
        ),
        ({"tool_calls": [{"function": {"name": "get", "arguments": '{"a":1}'}}]}, 10),
        (5, 0),
        (None, 0),
        ({"content": 5, "x": [None, True, 1.5]}, 0),
    ],
)
def test_delivered_text(delta: Any, count: int) -> None:
    """All that was generated is counted, once: content, refusals, reasoning, calls of tools."""
    metered = meter()
    metered.feed(event({"choices": [{"index": 0, "delta": delta}]}))
    assert metered.outcome().delivered == count


def test_choices_do_not_run_together() -> None:
    """Texts of several choices are counted each on its own, as they are billed."""
    seen: list[list[str]] = []

    def count(texts: Sequence[str]) -> int:
        seen.append(list(texts))
        return len(texts)

    metered = StreamMeter(Tokenizer(count, count, exact=True), usage_wanted=False)
    for text in ("a", "b"):
        for index in (0, 1):
            metered.feed(event(chunk(text, index=index)))
    metered.outcome()
    assert seen == [["ab", "ab"]]


def test_a_text_in_parts_is_counted_in_order() -> None:
    """The parts of one content are joined as they stand, for they are one text."""
    seen: list[str] = []

    def count(texts: Sequence[str]) -> int:
        seen.extend(texts)
        return 0

    metered = StreamMeter(Tokenizer(count, count, exact=True), usage_wanted=False)
    parts = [{"type": "text", "text": "a", "more": {"x": "b", "y": ["c"]}}, "d"]
    metered.feed(event({"choices": [{"delta": {"content": parts}}]}))
    metered.outcome()
    assert seen == ["abcd"]


def test_pieces_of_a_word_are_counted_joined() -> None:
    """A text in many deltas is counted as the text that it is, not delta by delta."""
    metered = StreamMeter(tokenizer_for("gpt-4o"), usage_wanted=False)
    for piece in "internationalization":
        metered.feed(event(chunk(piece)))
    assert metered.outcome().delivered == tokenizer_for("gpt-4o").guess(["internationalization"])


@pytest.mark.parametrize("tail", [b"", b"x"], ids=["whole events", "split events"])
def test_long_streams_are_counted_in_batches(tail: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for counting is let go every so many bytes, whichever way it came."""
    counted: list[int] = []

    def count(texts: Sequence[str]) -> int:
        counted.append(sum(map(len, texts)))
        return counted[-1]

    monkeypatch.setattr(module, "_BATCH", 1000)
    metered = StreamMeter(Tokenizer(count, count, exact=True), usage_wanted=False)
    data = event(chunk("y" * 50))
    metered.feed(tail)
    for _ in range(100):
        metered.feed(data)
    assert len(counted) > 10
    assert metered.outcome().delivered == sum(counted)
    # The first event begins with the tail where there is one, and so is none.
    assert sum(counted) == 5000 - (50 if tail else 0)
    assert max(counted) < 1000


def test_a_deep_answer_is_no_danger() -> None:
    """An event nested beyond what can be decoded passes, and one just within is counted."""
    for depth in (300, 100_000):
        nest = "[" * depth + '"abc"' + "]" * depth
        data = event('{"choices":[{"delta":{"content":' + nest + "}}]}")
        metered = meter()
        assert metered.feed(data) == data
        assert metered.outcome().delivered == (3 if depth == 300 else 0)


def test_a_whole_answer() -> None:
    """An answer without a stream tells its usage and is complete."""
    metered = meter()
    body = json.dumps({"choices": [{"message": {"content": "Hello"}}], "usage": USAGE}).encode()
    assert metered.whole(body)
    assert metered.complete
    assert metered.outcome() == Outcome(Phase.COMPLETE, Usage(12, 3), 0)


def test_a_whole_answer_without_usage() -> None:
    """Every choice of a whole answer is counted where no usage comes."""
    choices = [
        {"message": {"role": "assistant", "content": "Hello"}},
        {"message": {"content": None, "refusal": "No"}},
        {"message": {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]}},
    ]
    metered = meter()
    assert metered.whole(json.dumps({"choices": choices, "usage": None}).encode())
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 10)


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_answer(body: bytes) -> None:
    """A body that is no JSON object is not an answer, and completes nothing."""
    metered = meter()
    metered.called()
    assert not metered.whole(body)
    assert not metered.complete
    assert metered.outcome().phase is Phase.CALLED


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"error": {"message": "no provider", "code": 502}},
        {"error": "x", "choices": [{"message": {"content": "Hi"}}]},
        {"choices": []},
        {"choices": None},
        {"choices": {"message": {}}},
    ],
)
def test_an_error_is_no_answer(answer: Any) -> None:
    """What holds an error or no choices is no answer, and refunded unless it tells its usage."""
    metered, told = meter(), meter()
    for each, body in ((metered, answer), (told, {**answer, "usage": USAGE})):
        each.called()
        assert not each.whole(json.dumps(body).encode())
        each.refused()
    assert metered.outcome() == Outcome(Phase.REFUSED, None, 0)
    assert told.outcome() == Outcome(Phase.CALLED, Usage(12, 3), 0)


ZERO = {"prompt_tokens": 12, "completion_tokens": 0}


def test_a_usage_without_output_does_not_make_text_free() -> None:
    """Where text came, a usage without any output stands for the input alone, in a stream and
    out of one.
    """
    metered, whole = meter(), meter()
    for text in ("abc", "de"):
        metered.feed(event(chunk(text, usage=ZERO)))
    assert metered.outcome() == Outcome(Phase.STREAMING, Usage(12, 0), 5)
    body = {"choices": [{"message": {"content": "Hello"}}], "usage": ZERO}
    assert whole.whole(json.dumps(body).encode())
    assert whole.outcome() == Outcome(Phase.COMPLETE, Usage(12, 0), 5)


def test_the_last_usage_with_output_stands() -> None:
    """A usage without output displaces none that has some."""
    metered = meter()
    metered.feed(event(chunk("abc", usage=USAGE)) + event(chunk("de", usage=ZERO)))
    assert metered.outcome() == Outcome(Phase.STREAMING, Usage(12, 3), 2)


def test_usage_above_the_most_is_not_believed() -> None:
    """A usage that cannot be real is none, in a stream and out of one: our own count stands."""
    huge = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 2**31 - 1}
    metered, whole = meter(most=Usage(1000, 500)), meter(most=Usage(1000, 500))
    metered.feed(event(chunk("abc")) + event(usage_chunk(huge)) + DONE)
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 3)
    whole.whole(json.dumps({"choices": [{"message": {"content": "Hi"}}], "usage": huge}).encode())
    assert whole.outcome() == Outcome(Phase.COMPLETE, None, 2)


def raw_chunk(inside: str) -> bytes:
    return b'data: {"choices":[{"index":0,' + inside.encode() + b"}]}\n\n"


@pytest.mark.parametrize(
    ("chunks", "count"),
    [
        (
            [
                raw_chunk(r'"delta":{"content":"ab\ud83d"}'),
                raw_chunk(r'"delta":{"content":"\ude00c"}'),
            ],
            7,
        ),
        ([raw_chunk(r'"delta":{"content":"ab\ud83d"}')], 5),
        ([raw_chunk(r'"delta":{"content":"ab\ude00"}')], 5),
        ([raw_chunk('"delta":{"content":"abc"},"logprobs":{"x":NaN}')], 3),
        ([raw_chunk('"delta":{"content":"a\tb"}')], 3),
        ([b'data: {"choices":[{"delta":{"content":"ab\xff"}}]}\n\n'], 5),
        ([raw_chunk('"text":"abc"'), raw_chunk('"text":"de"')], 5),
        ([raw_chunk('"message":{"role":"assistant","content":"abc"}')], 3),
        ([raw_chunk('"delta":{"content":"abc"},"text":"abc"')], 3),
        ([raw_chunk('"delta":{"role":"assistant","content":""}'), raw_chunk('"text":"abc"')], 3),
        ([raw_chunk('"delta":{"content":"abc"}'), raw_chunk('"message":{"content":"abc"}')], 3),
    ],
)
def test_text_in_odd_shapes_is_counted(chunks: list[bytes], count: int) -> None:
    """Text is counted where JSON is broken in ways that clients read over, and where a server
    has it under another name; once where it has it twice.
    """
    metered = meter()
    for each in chunks:
        assert metered.feed(each) == each
    assert metered.outcome().delivered == count


def test_half_a_character_in_a_whole_answer_is_counted() -> None:
    """A whole answer that was cut within a character is an answer, and counted."""
    metered = meter()
    assert metered.whole(rb'{"choices":[{"message":{"content":"ab\ud83d"}}]}')
    assert metered.outcome() == Outcome(Phase.COMPLETE, None, 5)


def test_a_guess_is_told_as_one() -> None:
    """Text of an unknown vocabulary is guessed, not bounded, and the outcome tells so."""
    metered = StreamMeter(tokenizer_for("llama-3"), usage_wanted=False)
    metered.feed(event(chunk("the quick brown fox jumps over " * 40)))
    outcome = metered.outcome()
    assert outcome.delivered == 241
    assert not outcome.exact


@given(STREAMS)
def test_texts_are_the_same_read_at_once(stream: bytes) -> None:
    """Events that are read together have the texts that they have one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Texts, "_add_plain", lambda *_: False)
        one_by_one = Texts().of_events(stream)
    assert Texts().of_events(stream) == one_by_one


def test_events_that_are_read_at_once() -> None:
    """A batch of chunks with plain deltas is read as one, each text in its place."""
    events = [chunk("a"), chunk("x", index=1), chunk("b"), chunk(), chunk("", usage=None)]
    pieces: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    assert Texts()._add_plain(b"".join(map(event, events)), pieces)
    assert pieces == {(0, "content"): ["a", "b"], (1, "content"): ["x"]}


@pytest.mark.parametrize(
    "odd", [b": ping\n\n", event({"choices": [{"text": "a"}]}), event([1]), b"data: {\n\n"]
)
def test_events_that_are_read_one_by_one(odd: bytes) -> None:
    """One event of another shape, and the batch is read event by event."""
    assert not Texts()._add_plain(event(chunk("a")) + odd, defaultdict(list))
    assert Texts().of_events(event(chunk("abc")) + odd)[0] == "abc"
