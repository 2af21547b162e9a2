"""The fault matrix: at each stage of an answer each fault, and what comes of it. One row a cell.

Stages, of which the third to the fifth are all "before the first token":

    connect       no connection yet, or no TLS
    headers       the request is sent, and no head has come whole
    first byte    the head has come, and nothing of the body
    first event   something has come, but no whole event: another status can still be told
    first token   an event has come, and no word
    mid-stream    two words have come
    after [DONE]  all of the answer has come, but perhaps not the end of its body
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Mapping
from typing import Final

from tests.scripted import Close, Cut, End, Head, Raw, Reset, Send, sse
from tests.web.fault_steps import (
    ALL,
    BAD_CHUNK,
    BAD_RECORD,
    BEGUN,
    BROKEN,
    BROKEN_DOWN,
    CHUNKED,
    CONTINUE,
    EARLY_HINTS,
    END_AND_ANOTHER,
    END_AND_GARBAGE,
    EXACT,
    FAILED,
    GARBAGE,
    GZIP,
    HALF,
    HALF_A_HEAD,
    HANG,
    HEAD,
    HELLO_HALF,
    HTML,
    HUGE,
    JSON,
    LARGE_HEAD,
    LATE,
    LIMITED,
    NO_HTTP,
    OPEN_ALL,
    OPEN_BEGUN,
    OPEN_HALF,
    OPEN_WORDS,
    PINGED,
    PLAIN_HTTP,
    REFUNDED,
    SLOW_DOWN,
    SLOW_HEADER,
    STAGES,
    STALLED,
    THERE,
    TO_THE_END,
    TOO_MUCH,
    WORDS,
    At,
    Truncated,
    cell,
    drip,
    lengths,
)
from tests.web.fault_wire import WHOLE, Part

CELLS: Final = (
    # A connection that nobody takes, and TLS that is none.
    cell("connect", "refused", FAILED, [], at=At.NOBODY),
    cell("connect", "black hole", FAILED, [], by="connect", at=At.FULL),
    cell("connect", "reset", FAILED, [Reset()], [HELLO_HALF, Reset()], at=At.GREETER),
    cell("connect", "slow drip", FAILED, drip(HELLO_HALF, Raw(b"x")), by="connect", at=At.GREETER),
    cell("connect", "truncated", FAILED, [HELLO_HALF, Close()], at=At.GREETER),
    cell("connect", "no end mark", FAILED, [Close()], at=At.GREETER),
    cell("connect", "garbage", FAILED, [GARBAGE, HANG], [PLAIN_HTTP, HANG], at=At.GREETER),
    cell("connect", "stall", FAILED, [HANG], [HELLO_HALF, HANG], by="connect", at=At.GREETER),
    cell("connect", "bad TLS", FAILED, WHOLE, at=At.STRANGER),
    # No head: a clean error, as of an upstream that is not there.
    cell("headers", "black hole", LATE, [], by="first_byte", at=At.MUTE),
    cell("headers", "reset", FAILED, [Reset()], [HALF_A_HEAD, Reset()]),
    cell(
        "headers",
        "slow drip",
        LATE,
        drip(SLOW_HEADER, Raw(b"a")),
        drip(HALF_A_HEAD, Raw(b"x")),
        by="first_byte",
    ),
    cell("headers", "truncated", FAILED, Truncated("headers")),
    cell("headers", "no end mark", FAILED, [Close()], [HALF_A_HEAD, Close()]),
    cell(
        "headers",
        "bad framing",
        FAILED,
        lengths(CHUNKED, b"Content-Length: 20"),
        lengths(b"Content-Length: -1"),
        lengths(b"Content-Length: 20", b"Content-Length: 21"),
    ),
    cell(
        "headers", "garbage", FAILED, [GARBAGE, HANG], [NO_HTTP, HANG], [HALF_A_HEAD, GARBAGE, HANG]
    ),
    cell("headers", "429", LIMITED, SLOW_DOWN),
    cell(
        "headers",
        "500",
        FAILED,
        BROKEN_DOWN,
        [Head(503), Send(b"<h1>"), Reset()],
        [Head(529), HANG],
        by="idle",
    ),
    cell("headers", "redirect", FAILED, [Head(302, THERE), End()], [Head(307, THERE), End()]),
    cell("headers", "stall", LATE, [HANG], [HALF_A_HEAD, HANG], by="first_byte"),
    cell(
        "headers",
        "bad TLS",
        FAILED,
        [BAD_RECORD, HANG],
        [HALF_A_HEAD, BAD_RECORD, HANG],
        [HALF_A_HEAD, Cut()],
        at=At.SECURE,
    ),
    cell("headers", "no certificate", FAILED, WHOLE, at=At.ASKING),
    cell("headers", "wrong type", FAILED, [HTML, Send(b"<h1>"), End()], [JSON, Send(b"{}"), End()]),
    cell("headers", "compressed", FAILED, [GZIP, Send(gzip.compress(sse("x"))), End()]),
    cell("headers", "too large", FAILED, [LARGE_HEAD, HANG]),
    cell("headers", "other heads", LATE, drip(CONTINUE, EARLY_HINTS), by="first_byte"),
    # A head, and no body: the 200 has not gone out.
    cell("first byte", "reset", FAILED, [HEAD, Reset()], [TO_THE_END, Reset()]),
    cell("first byte", "slow drip", LATE, drip(HEAD, Raw(b"0")), by="first_byte"),
    cell("first byte", "truncated", FAILED, Truncated("first byte")),
    cell(
        "first byte", "no end mark", FAILED, [HEAD, End()], [HEAD, Close()], [TO_THE_END, Close()]
    ),
    cell("first byte", "bad framing", FAILED, [HEAD, BAD_CHUNK, HANG]),
    cell("first byte", "garbage", FAILED, [HEAD, GARBAGE, HANG]),
    cell("first byte", "stall", LATE, [HEAD, HANG], [TO_THE_END, HANG], by="first_byte"),
    cell(
        "first byte", "bad TLS", FAILED, [HEAD, BAD_RECORD, HANG], [TO_THE_END, Cut()], at=At.SECURE
    ),
    cell("first event", "reset", FAILED, [*PINGED, Reset()], [*HALF, Reset()]),
    cell(
        "first event",
        "slow drip",
        LATE,
        drip(*PINGED, Part.PING),
        drip(*HALF, Send(b"x")),
        by="total",
    ),
    cell("first event", "truncated", FAILED, Truncated("first event")),
    cell(
        "first event",
        "no end mark",
        FAILED,
        [*PINGED, End()],
        [*PINGED, Close()],
        [*HALF, End()],
        [*OPEN_HALF, Close()],
    ),
    cell(
        "first event", "bad framing", FAILED, [*PINGED, BAD_CHUNK, HANG], [*HALF, BAD_CHUNK, HANG]
    ),
    cell("first event", "garbage", FAILED, [*PINGED, GARBAGE, HANG], [*HALF, GARBAGE, HANG]),
    cell("first event", "stall", LATE, [*PINGED, HANG], [*HALF, HANG], by="idle"),
    cell(
        "first event",
        "bad TLS",
        FAILED,
        [*PINGED, BAD_RECORD, HANG],
        [*OPEN_HALF, Cut()],
        at=At.SECURE,
    ),
    cell("first event", "too large", TOO_MUCH, [*PINGED, *HUGE, HANG], [HEAD, *HUGE, HANG]),
    # From here on the client has its 200.
    cell("first token", "reset", BROKEN, [*BEGUN, Reset()], [*OPEN_BEGUN, Reset()]),
    cell("first token", "slow drip", STALLED, drip(*BEGUN, Send(b":"), Send(b"x")), by="total"),
    cell("first token", "truncated", BROKEN, Truncated("first token")),
    cell("first token", "no end mark", BROKEN, [*BEGUN, End()], [*OPEN_BEGUN, Close()]),
    cell("first token", "bad framing", BROKEN, [*BEGUN, BAD_CHUNK, HANG]),
    cell("first token", "garbage", BROKEN, [*BEGUN, GARBAGE, HANG]),
    cell("first token", "stall", STALLED, [*BEGUN, HANG], by="idle"),
    cell(
        "first token",
        "bad TLS",
        BROKEN,
        [*BEGUN, BAD_RECORD, HANG],
        [*OPEN_BEGUN, Cut()],
        at=At.SECURE,
    ),
    cell("first token", "too large", BROKEN, [*BEGUN, *HUGE, HANG]),
    cell(
        "first token",
        "error event",
        REFUNDED,
        [*BEGUN, Part.ERROR, End()],
        [*BEGUN, Part.ERROR, Reset()],
    ),
    cell("mid-stream", "reset", BROKEN, [*WORDS, Reset()], [*OPEN_WORDS, Reset()]),
    cell(
        "mid-stream",
        "slow drip",
        STALLED,
        drip(*WORDS, Send(b":"), Send(b"x")),
        drip(*WORDS, Raw(b"9;"), Raw(b"x")),
        by="total",
    ),
    cell("mid-stream", "truncated", BROKEN, Truncated("mid-stream")),
    cell(
        "mid-stream",
        "no end mark",
        BROKEN,
        [*WORDS, End()],
        [*WORDS, Close()],
        [*OPEN_WORDS, Close()],
    ),
    cell("mid-stream", "bad framing", BROKEN, [*WORDS, BAD_CHUNK, HANG]),
    cell("mid-stream", "garbage", BROKEN, [*WORDS, GARBAGE, HANG]),
    cell("mid-stream", "stall", STALLED, [*WORDS, HANG], [*OPEN_WORDS, HANG], by="idle"),
    cell(
        "mid-stream",
        "bad TLS",
        BROKEN,
        [*WORDS, BAD_RECORD, HANG],
        [*OPEN_WORDS, Cut()],
        at=At.SECURE,
    ),
    cell("mid-stream", "too large", BROKEN, [*WORDS, *HUGE, HANG]),
    cell(
        "mid-stream",
        "error event",
        BROKEN,
        [*WORDS, Part.ERROR, End()],
        [*WORDS, Part.ERROR, Reset()],
    ),
    # Nothing is missing: what happens to the rest of the body is no client's matter. The SDK
    # waits for its end for 100 ms.
    cell("after [DONE]", "reset", EXACT, [*ALL, Reset()]),
    cell("after [DONE]", "slow drip", EXACT, drip(*ALL, Send(b":"), Send(b"x")), by="total"),
    cell("after [DONE]", "truncated", EXACT, Truncated("after [DONE]", ("chunked", "close"))),
    cell("after [DONE]", "no end mark", EXACT, [*ALL, Close()], [*OPEN_ALL, Close()]),
    cell("after [DONE]", "bad framing", EXACT, [*ALL, BAD_CHUNK, HANG]),
    cell("after [DONE]", "garbage", EXACT, [*ALL, GARBAGE, HANG], [*ALL, END_AND_GARBAGE, HANG]),
    cell("after [DONE]", "stall", EXACT, [*ALL, HANG], by="idle"),
    cell(
        "after [DONE]", "bad TLS", EXACT, [*ALL, BAD_RECORD, HANG], [*OPEN_ALL, Cut()], at=At.SECURE
    ),
    cell("after [DONE]", "another answer", EXACT, [*ALL, END_AND_ANOTHER]),
)

_HEADS: Final = ("429", "500", "redirect", "wrong type", "compressed", "other heads")
_BODIES: Final = ("too large", "error event", "another answer")
_WHY: Final[Mapping[str, tuple[Collection[str], Collection[str]]]] = {
    "a connection that was made is not refused": (STAGES[1:], ["refused"]),
    "who reads cannot tell it from a stall": (STAGES[2:], ["black hole"]),
    "there is no HTTP yet": (STAGES[:1], ["bad framing", *_HEADS, *_BODIES]),
    "the head has come, and was good": (STAGES[2:], _HEADS),
    "it is asked for after the connection, and before an answer": (
        [*STAGES[:1], *STAGES[2:]],
        ["no certificate"],
    ),
    "an event that comes is of a body": (["headers"], ["error event"]),
    "nothing of a body has come": (["first byte"], ["error event", "too large"]),
    "what it says decides: tests/web/test_first_events.py": (["first event"], ["error event"]),
    "what comes here is taken for this answer's": (STAGES[1:6], ["another answer"]),
    "what comes here is no event of the answer": (STAGES[6:], ["too large", "error event"]),
}
#: Cells that cannot exist, and why.
IMPOSSIBLE: Final = {
    (stage, fault): why
    for why, (stages, faults) in _WHY.items()
    for stage in stages
    for fault in faults
}
#: The stages at which an answer's own words matter, and so its kind.
ANSWERED: Final = tuple(cell for cell in CELLS if cell.stage in STAGES[3:])
