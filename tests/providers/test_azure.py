"""Azure's answers: what of them is touched, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import GatewayError
from proxy.domain.sse import LARGEST_EVENT, EventTooLarge
from proxy.providers.azure import KIND, headers
from proxy.providers.kind import Translator
from tests.domain.bodies import hello, parse
from tests.gateway import events
from tests.scripted import sse

FILTERS = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}]
PROMPT = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "usage": None}
WORD = {"id": "c", "choices": [{"index": 0, "delta": {"content": "räm"}, "finish_reason": None}]}
USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
STREAM = sse({**PROMPT, "prompt_filter_results": FILTERS}, WORD, WORD, USAGE, "[DONE]")


def translator(**more: Any) -> Translator | None:
    assert KIND.translator is not None
    return KIND.translator(parse(hello(**more)), 0)


def stream() -> Translator:
    made = translator(stream=True)
    assert made is not None
    return made


def test_the_key_has_a_header_of_its_own() -> None:
    """The key goes up as `api-key`, and in no other header."""
    assert headers("k") == {"api-key": "k"}
    assert headers(None) == {}


@given(st.lists(st.integers(1, 60), max_size=12))
def test_the_prompts_filters_come_with_a_choice(sizes: list[int]) -> None:
    """The first event gets an empty choice, however it is cut; every other byte is Azure's."""
    made, out, rest = stream(), b"", STREAM
    for size in sizes:
        out += made.feed(rest[:size])
        rest = rest[size:]
    out += made.feed(rest)
    first, _, others = out.partition(b"\n\n")
    assert others == STREAM.partition(b"\n\n")[2]
    assert json.loads(first.removeprefix(b"data: ")) == {
        **PROMPT,
        "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
        "prompt_filter_results": FILTERS,
    }


def test_what_comes_later_passes_as_it_is() -> None:
    """Once a choice has come a read is passed on as the very bytes that it was."""
    made = stream()
    made.feed(sse(PROMPT, WORD))
    later = b'data: {"choices":[]}\n\nda'
    assert made.feed(later) is later


def test_half_an_event_behind_the_first_choice() -> None:
    """What was held when the first choice came is passed on with it."""
    assert stream().feed(sse(WORD) + b'data: {"ch') == sse(WORD) + b'data: {"ch'


@pytest.mark.parametrize(
    "first",
    [
        sse({"error": {"message": "Overloaded.", "code": "x"}}),
        sse(USAGE),
        sse("[DONE]"),
        b": hello\n\n",
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"data: \xff\n\n",
        b"\n",
    ],
)
def test_any_other_beginning_passes(first: bytes) -> None:
    """What is no event about the prompt is passed on as it is, and so is what follows."""
    assert stream().feed(first + sse(WORD)) == first + sse(WORD)


def test_several_without_a_choice() -> None:
    """Each event before the first choice gets one."""
    told = events(stream().feed(sse(PROMPT) + b": wait\n\n" + sse(PROMPT, WORD)))
    assert [len(event["choices"]) for event in told] == [1, 1, 1]


def test_who_asked_for_the_usage_gets_every_byte() -> None:
    """A client that takes an event without choices at the end takes one at the beginning."""
    assert translator(stream=True, stream_options={"include_usage": True}) is None
    assert translator(stream=False) is None
    assert translator(stream=True, stream_options={"include_usage": False}) is not None


def test_an_event_without_an_end() -> None:
    """A first event that never ends is refused as any other is."""
    with pytest.raises((EventTooLarge, GatewayError)):
        stream().feed(b"data: " + b"x" * LARGEST_EVENT)
