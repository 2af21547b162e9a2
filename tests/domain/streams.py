"""Streams of all shapes, a second reading of what is in them, and meters to put them through."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from proxy.domain.meter import StreamMeter
from proxy.domain.tokenizer import Tokenizer, bytes_bound

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"


def chunk(content: str | None = None, *, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk in the reference's shape; no content is the finish chunk."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": None if delta else "stop"}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


def usage_chunk(usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """The event that providers send when asked for usage."""
    return {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage, **more}


def event(value: Any, end: bytes = b"\n") -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return b"data: " + text.encode() + end + end


def stream(*values: Any) -> bytes:
    """Events one after the other, and the end mark."""
    return b"".join(map(event, values)) + DONE


BYTES = Tokenizer(bytes_bound, bytes_bound, exact=True)


def meter(**more: Any) -> StreamMeter:
    """A meter that counts one token a byte."""
    return StreamMeter(BYTES, **{"usage_wanted": False, **more})


def through(metered: StreamMeter, pieces: Sequence[bytes]) -> bytes:
    """What a client gets of a stream that comes in these reads."""
    return b"".join([*map(metered.feed, pieces), metered.rest()])


def reads(whole: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The stream in pieces that end at `cuts`."""
    ends = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    return [whole[a:b] for a, b in itertools.pairwise(ends)]


def cut(whole: bytes) -> list[bytes]:
    """A second reading of the rule: an event ends where a line end follows a line end."""
    events, start, last = [], 0, -1
    for end in re.finditer(rb"\r\n|\r|\n", whole):
        if end.start() == last:
            events.append(whole[start : end.end()])
            start, last = end.end(), -1
        else:
            last = end.end()
    return [*events, whole[start:]] if whole[start:] else events


def objects(whole: bytes) -> list[tuple[bytes, Any]]:
    """Every event with its data decoded: an object, "[DONE]", or None for all else."""
    found: list[tuple[bytes, Any]] = []
    for piece in cut(whole):
        lines = re.split(rb"\r\n|\r|\n", piece.removeprefix(b"\xef\xbb\xbf"))
        data = b"\n".join(re.sub(rb"^data:? ?", b"", x) for x in lines if re.match(b"data(:|$)", x))
        try:
            value = json.loads(data.decode())
        except ValueError:
            value = "[DONE]" if data.strip() == b"[DONE]" else None
        found.append((piece, value if isinstance(value, dict | str) else None))
    return found


#: Usage that cannot be believed; None is what most chunks carry.
LIES: list[Any] = [
    None,
    {},
    [],
    "15",
    15,
    True,
    {"prompt_tokens": 12},
    {"prompt_tokens": -1, "completion_tokens": 3},
    {"prompt_tokens": 12, "completion_tokens": -3},
    {"prompt_tokens": 12.0, "completion_tokens": 3},
    {"prompt_tokens": "12", "completion_tokens": "3"},
    {"prompt_tokens": True, "completion_tokens": 3},
    {"prompt_tokens": 12, "completion_tokens": None},
    {"prompt_tokens": [12], "completion_tokens": {}},
    {"prompt_tokens": 12, "completion_tokens": 10**30},
    {"prompt_tokens": 2**31, "completion_tokens": 3},
    {"prompt_tokens": 0, "completion_tokens": 3},
]

_TEXT = st.text(max_size=6) | st.sampled_from(
    ('"usage": {', "[DONE]", "data: ", '"error":', "é🎉", "\r\n\r\n", "\x00")
)
_USAGES = st.sampled_from([*LIES, USAGE, {**USAGE, "completion_tokens": 9}])
_CHUNKS = st.one_of(
    st.builds(chunk, _TEXT, index=st.integers(0, 2)),
    st.builds(chunk, _TEXT, usage=_USAGES),
    st.builds(usage_chunk, _USAGES),
    st.builds(usage_chunk, st.none(), x_groq=st.builds(dict, usage=_USAGES)),
    st.builds(chunk, st.none(), usage=_USAGES),
    st.just({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
    st.just({"error": {"message": "broken"}}),
    st.just({"error": None, "choices": []}),
    st.just({"choices": [5, {"index": [], "delta": {"content": "x"}}], "usage": 0}),
)
_ENDS = st.sampled_from((b"\n", b"\r\n", b"\r"))


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    end = draw(_ENDS)
    indent = draw(st.sampled_from((None, None, 1)))
    text = json.dumps(draw(_CHUNKS), ensure_ascii=draw(st.booleans()), indent=indent)
    prefix = draw(st.sampled_from((b"data: ", b"data:")))
    lines = [prefix + line.encode() for line in text.split("\n")]
    before = draw(st.sampled_from((b"", b": busy", b"event: message", b"id: 7")))
    # The ends of one event's lines may differ, as long as they do not run together.
    last = draw(_ENDS) if end != b"\r" else end
    return end.join([before, *lines] if before else lines) + end + last


_OTHERS = st.sampled_from(
    (
        *(b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE] \n\n", b"data: [DONE]\r\r"),
        *(
            b": OPENROUTER PROCESSING\n\n",
            b"\n",
            b"\r",
            b"data\n\n",
            b"data: {\n\n",
            b"data: [1]\n\n",
        ),
        *(b"\xef\xbb\xbf", b"data: \xff\xfe\n\n", b"event: error\n\n", b": [DONE]\n\n"),
    )
)

#: Whole streams, some cut off at the end.
STREAMS = (
    st.lists(_events() | _OTHERS, max_size=7)
    .map(b"".join)
    .flatmap(lambda whole: st.just(whole) | st.integers(0, len(whole)).map(lambda end: whole[:end]))
)
