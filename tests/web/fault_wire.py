"""The answer that every fault of the matrix falls into, in each kind's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tests.providers.anthropic import recorded
from tests.scripted import Close, End, Head, Raw, Send, Step
from tests.scripted.vendors import fixture


class Part(Enum):
    """What a script sends of the answer, whichever kind's it is; all but HALF are whole events."""

    PING = "what says that an answer is to come, and is none of it"
    HALF = "half of the first event"
    ROLE = "up to where the first word would come"
    TEXT = "the first two words"
    REST = "the other words, the reason to stop and the usage"
    DONE = "the provider's own end mark"
    ERROR = "the provider's own word that it has failed"


_ANSWER = (Part.ROLE, Part.TEXT, Part.REST, Part.DONE)
Steps = Sequence[Step | Part]


@dataclass(frozen=True)
class Wire:
    """A kind's answer. `says` are its words; `model` is served by it, `usage` what it reports."""

    model: str
    provider: dict[str, str]
    parts: dict[Part, bytes]
    says: tuple[str, ...]
    usage: tuple[int, int]

    def steps(self, script: Steps) -> list[Step]:
        """A script with each Part as what it is here."""
        return [Send(self.parts[s]) if isinstance(s, Part) else s for s in script]

    def body(self) -> list[bytes]:
        """The whole answer, event by event."""
        whole = b"".join(self.parts[part] for part in _ANSWER)
        return [event + b"\n\n" for event in whole.split(b"\n\n") if event]


_COMMENT = b": ping\n\n"


def _wire(
    provider: dict[str, str],
    model: str,
    events: tuple[bytes, bytes],
    first_word: bytes,
    says: tuple[str, ...],
    usage: tuple[int, int],
    ping: bytes = _COMMENT,
) -> Wire:
    """From a recorded answer, and one that ends with an error."""
    whole, failed = ([e + b"\n\n" for e in each.split(b"\n\n") if e.strip()] for each in events)
    begun = next(at for at, event in enumerate(whole) if first_word in event)
    cuts = {
        Part.PING: [ping],
        Part.HALF: [whole[0][: len(whole[0]) // 2]],
        Part.ROLE: whole[:begun],
        Part.TEXT: whole[begun : begun + 2],
        Part.REST: whole[begun + 2 : -1],
        Part.DONE: whole[-1:],
        Part.ERROR: failed[-1:],
    }
    parts = {part: b"".join(found) for part, found in cuts.items()}
    return Wire(model, {"kind": "openai", **provider}, parts, says, usage)


def _fixtures(vendor: str) -> tuple[bytes, bytes]:
    return fixture(vendor, "text.sse"), fixture(vendor, "error.sse")


_RED = ("A", " red", " square", ".")
WIRES = {
    "openai": _wire({}, "gpt-4o", _fixtures("openai"), b'"A"', _RED, (1117, 46)),
    "azure": _wire({"kind": "azure"}, "gpt-4o", _fixtures("azure"), b'"A"', _RED, (1117, 46)),
    "anthropic": _wire(
        {"kind": "anthropic"},
        "claude-sonnet-4-5",
        (recorded("text.sse"), recorded("error.sse")),
        b'"The"',
        ("The", " sunset", " over", " Zürich", " 🌅."),
        (25, 15),
        b'event: ping\ndata: {"type": "ping"}\n\n',
    ),
}

_TYPE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
FRAMINGS = ("chunked", "length", "close")


@dataclass(frozen=True)
class Bytes:
    """An answer as it is on the wire. `stages`: by stage the first byte at which it may be cut and
    the first at which it may not, for a client to see what it always does at that stage.
    """

    data: bytes
    stages: dict[str, tuple[int, int]]
    ends: list[int]  # of each event, the end mark's the last

    def cut(self, at: int) -> list[Step]:
        return [Raw(self.data[:at]), Close()]


def on_the_wire(wire: Wire, framing: str) -> Bytes:
    """The whole answer in chunks, by its length, or until the connection's end."""
    events = wire.body()
    length = sum(map(len, events))
    data = (
        _TYPE
        + {
            "chunked": b"Transfer-Encoding: chunked\r\n\r\n",
            "length": b"Content-Length: %d\r\n\r\n" % length,
            "close": b"\r\n",
        }[framing]
    )
    head, begins, ends = len(data), list[int](), list[int]()
    for event in events:
        data += b"%x\r\n" % len(event) if framing == "chunked" else b""
        begins.append(len(data))
        data += event
        ends.append(len(data))
        data += b"\r\n" if framing == "chunked" else b""
    data += b"0\r\n\r\n" if framing == "chunked" else b""
    role = wire.parts[Part.ROLE].count(b"\n\n") - 1  # the last event of the role
    stages = {
        "headers": (1, head),
        "first byte": (head, begins[0] + 1),
        "first event": (begins[0] + 1, ends[0] - 1),
        "first token": (ends[role], ends[role + 1] - 1),
        "mid-stream": (ends[role + 2], ends[role + 3] - 1),
        "after [DONE]": (ends[-1], max(ends[-1] + 1, len(data))),
    }
    return Bytes(data, stages, ends)


WHOLE: Steps = (Head(), Part.ROLE, Part.TEXT, Part.REST, Part.DONE, End())
