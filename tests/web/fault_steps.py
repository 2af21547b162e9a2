"""What the rows of the fault matrix are made of: verdicts, servers, and the parts of scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Final, NamedTuple

import openai

from tests.scripted import Beneath, Head, Raw, Send, Sleep, Step, error_json
from tests.web.fault_wire import FRAMINGS, WHOLE, Part, Steps, Wire, on_the_wire

STAGES: Final = (
    "connect",
    "headers",
    "first byte",
    "first event",
    "first token",
    "mid-stream",
    "after [DONE]",
)


class Verdict(NamedTuple):
    """What the openai SDK raises behind the words that came, and the gateway tells of it: how it
    `ended` in the log and the metrics, and whether any tokens are `charged`.
    """

    raises: type[openai.APIError] | None
    status: int
    ended: str
    charged: bool


#: Nothing has come: an error with its own status, for the price of a request.
FAILED: Final = Verdict(openai.InternalServerError, 502, "upstream_failed", charged=False)
#: Nor has it in time; but the upstream has the request, and may bill what it has read.
LATE: Final = Verdict(openai.InternalServerError, 504, "upstream_timeout", charged=True)
#: So it does where more has come than can be held.
TOO_MUCH: Final = Verdict(openai.InternalServerError, 502, "upstream_failed", charged=True)
#: The provider's own refusal of this one request.
LIMITED: Final = Verdict(openai.RateLimitError, 429, "upstream_refused", charged=False)
#: The 200 is out: an event that tells of the failure, so that no SDK takes what came for all.
BROKEN: Final = Verdict(openai.APIError, 200, "upstream_failed", charged=True)
STALLED: Final = Verdict(openai.APIError, 200, "upstream_timeout", charged=True)
#: The same of a provider that says so itself before it has said anything else.
REFUNDED: Final = Verdict(openai.APIError, 200, "upstream_failed", charged=False)
#: Every word, and no error.
EXACT: Final = Verdict(None, 200, "complete", charged=True)


class At(Enum):
    """Who is where the gateway connects to."""

    UPSTREAM = "a provider, which reads the request before it plays its script"
    SECURE = "the same behind TLS"
    STRANGER = "the same, with a certificate that nobody trusts"
    ASKING = "the same, which wants a certificate of the client"
    GREETER = "one that plays its script where TLS should begin"
    NOBODY = "a port on which nobody listens"
    FULL = "a server that has no room for another connection"
    MUTE = "a server that takes connections, and never reads"


Script = Steps | Callable[[Wire, Random], list[Step]]


class Cell(NamedTuple):
    """`scripts`: what the upstream does, in turn where they are several. `by`: the deadline that
    ends it.
    """

    stage: str
    fault: str
    verdict: Verdict
    scripts: tuple[Script, ...]
    by: str
    at: At

    @property
    def name(self) -> str:
        """Fit for a config."""
        return f"{self.stage}-{self.fault}".lower().replace(" ", "-").replace("[done]", "done")

    def script(self, wire: Wire, run: int, dice: Random) -> list[Step]:
        """What the upstream does in the run of that number."""
        chosen = self.scripts[run % len(self.scripts)]
        return chosen(wire, dice) if callable(chosen) else wire.steps(chosen)


def cell(
    stage: str,
    fault: str,
    verdict: Verdict,
    *scripts: Script,
    by: str = "",
    at: At = At.UPSTREAM,
) -> Cell:
    """A row."""
    return Cell(stage, fault, verdict, scripts, by, at)


@dataclass(frozen=True)
class Truncated:
    """A FIN at any byte of the stage, whichever way the body is framed."""

    stage: str
    framings: tuple[str, ...] = FRAMINGS

    def __call__(self, wire: Wire, dice: Random) -> list[Step]:
        found = on_the_wire(wire, dice.choice(self.framings))
        return found.cut(dice.randrange(*found.stages[self.stage]))


def drip(*steps: Step | Part) -> Steps:
    """The last step again and again: slower than anybody waits, but never silent."""
    *begin, one = steps
    return [*begin, *[Sleep(0.02), one] * 500]


def lengths(*lines: bytes) -> Steps:
    """A head that tells of its body in these lines, and a good body in chunks."""
    head = b"\r\n".join((b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream", *lines, b"", b""))
    return [Raw(head), Raw(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"), HANG]


HANG: Final = Sleep(60)
GARBAGE: Final = Raw(bytes(range(256)) * 4)

# Where TLS should begin, and below it.
HELLO_HALF: Final = Raw(b"\x16\x03\x03\x40\x00\x02")  # a record of 16 KiB that has begun
PLAIN_HTTP: Final = Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
BAD_RECORD: Final = Beneath(b"\x17\x03\x03\x00\x40" + bytes(64))

# Heads.
HEAD: Final = Head()
TO_THE_END: Final = Head(chunked=False)  # of the connection
HALF_A_HEAD: Final = Raw(b"HTTP/1.1 200 OK\r\nContent-")
SLOW_HEADER: Final = Raw(b"HTTP/1.1 200 OK\r\nx-slow: ")
NO_HTTP: Final = Raw(b"ICY 200 OK\r\n\r\n")
CHUNKED: Final = b"Transfer-Encoding: chunked"
LARGE_HEAD: Final = Raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000)
CONTINUE: Final = Raw(b"HTTP/1.1 100 Continue\r\n\r\n")
EARLY_HINTS: Final = Raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
HTML: Final = Head(200, (("Content-Type", "text/html"),))
JSON: Final = Head(200, (("Content-Type", "application/json"),))
GZIP: Final = Head(200, (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip")))
THERE: Final = (("Location", "/elsewhere"),)
SLOW_DOWN: Final = error_json(429, "Slow down.")
BROKEN_DOWN: Final = error_json(500, "Broken.")

# Bodies, and what comes in their place.
PINGED: Final = (HEAD, Part.PING)
HALF: Final = (HEAD, Part.HALF)
OPEN_HALF: Final = (TO_THE_END, Part.HALF)
BEGUN: Final = (HEAD, Part.ROLE)
OPEN_BEGUN: Final = (TO_THE_END, Part.ROLE)
WORDS: Final = (*BEGUN, Part.TEXT)
OPEN_WORDS: Final = (*OPEN_BEGUN, Part.TEXT)
ALL: Final = WHOLE[:-1]
OPEN_ALL: Final = (TO_THE_END, *ALL[1:])
BAD_CHUNK: Final = Raw(b"zz\r\nrubbish\r\n")
HUGE: Final = [Send(b"data: " + b"x" * 2**18)] * 33  # an event over 8 MiB
# In one piece with the end: what comes later, and is not expected, is the next answer to anybody.
END_AND_GARBAGE: Final = Raw(b"0\r\n\r\n" + GARBAGE.data)
END_AND_ANOTHER: Final = Raw(b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
