"""Anthropic's streams, spoilt in any way, and what must be true of their translation."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from proxy.domain.errors import UpstreamFailed
from proxy.domain.sse import EventTooLarge
from proxy.providers.anthropic.answer import Answer
from tests.gateway import events
from tests.providers.anthropic import RECORDED

STREAMS = {path.stem: path.read_bytes() for path in sorted(RECORDED.glob("*.sse"))}


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A stream of which something is missing, changed, doubled or out of order."""
    came = bytearray(STREAMS[draw(st.sampled_from(sorted(STREAMS)))])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(came)))
        came[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=8))
    blocks = bytes(came).split(b"\n\n")
    for _ in range(draw(st.integers(0, 3))):
        at, to = (draw(st.integers(0, len(blocks) - 1)) for _ in range(2))
        blocks.insert(to, blocks[at] if draw(st.booleans()) else blocks.pop(at))
    return b"\n\n".join(blocks)


WORDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "ping", "error", "text", "tool_use", "thinking"),
        *("text_delta", "input_json_delta", "end_turn", "refusal", "overloaded_error", ""),
    ]
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=5))
NAMES = st.sampled_from(
    [
        *("type", "index", "message", "content_block", "delta", "usage", "error", "id", "model"),
        *("content", "text", "partial_json", "input", "name", "stop_reason", "stop_details"),
        *("input_tokens", "output_tokens", "cache_read_input_tokens", "explanation"),
    ]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6)
)
INVENTED = st.lists(
    st.tuples(WORDS, st.dictionaries(NAMES, VALUES, max_size=6)).map(
        lambda event: f"data: {json.dumps({'type': event[0], **event[1]})}\n\n".encode()
    ),
    max_size=8,
).map(lambda made: STREAMS["text"].partition(b"event: content_block_start")[0] + b"".join(made))


SPOILT = st.one_of(spoilt(), INVENTED, st.binary(max_size=200))


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
    assert told.count(b"[DONE]") <= 1
    for event in events(told):
        assert event == "[DONE]" or event.keys() & {"choices", "error"}
