"""Anthropic's streams, spoilt in any way, and what must be true of their translation."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st

from proxy.domain.errors import UpstreamFailed
from proxy.domain.sse import EventTooLarge
from proxy.providers.anthropic.answer import Answer
from tests.gateway import events
from tests.images.mutants import mutants
from tests.providers.anthropic import RECORDED

WHOLES = [path.read_bytes() for path in sorted(RECORDED.glob("*.json"))]
STREAMS = {path.stem: path.read_bytes() for path in sorted(RECORDED.glob("*.sse"))}


WORDS = (
    *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop", "ping", "error", "text", "tool_use", "thinking"),
    *("text_delta", "input_json_delta", "end_turn", "refusal", "overloaded_error", ""),
)
NAMES = (
    *("type", "index", "message", "content_block", "delta", "usage", "error", "id", "model"),
    *("content", "text", "partial_json", "input", "name", "stop_reason", "stop_details"),
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "explanation"),
)
LEAVES = (None, True, 0, 1, -1, 2**40, 10**30, 0.5, "\ud83d", "é\n", "[DONE]", *WORDS)
BEGUN = STREAMS["text"].partition(b"event: content_block_start")[0]


def invented(seed: int) -> bytes:
    """Events that no server sends, in an answer that has begun."""
    random = Random(seed)

    def value(depth: int) -> Any:
        if depth and random.random() < 0.6:
            names = random.sample(NAMES, random.randrange(6))
            return {name: value(depth - 1) for name in names} | {"type": random.choice(WORDS)}
        return [value(depth - 1)] if depth and random.random() < 0.1 else random.choice(LEAVES)

    made = [f"data: {json.dumps(value(3))}\n\n".encode() for _ in range(random.randrange(12))]
    return BEGUN + b"".join(made)


SPOILT = st.one_of(
    mutants(list(STREAMS.values())), mutants(WHOLES), st.integers(0, 2**64).map(invented)
)


def check_translation(came: bytes) -> None:
    """Whatever comes, what goes out is whole events of OpenAI's, or one of two errors; and some
    object, where it came as a whole answer.
    """
    assert isinstance(json.loads(Answer(1).whole(came)), dict)
    try:
        told = Answer(1).feed(came)
    except (UpstreamFailed, EventTooLarge):
        return
    assert not told or told.endswith((b"}\n\n", b"data: [DONE]\n\n"))
    said = events(told)
    assert "[DONE]" not in said[:-1]
    for event in said:
        assert event == "[DONE]" or event.keys() & {"choices", "error"}
