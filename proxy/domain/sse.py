"""Server-sent events, sans I/O: bytes in, whole events out, as they came.

Line ends are CR, LF or CRLF, a blank line ends an event, a leading BOM is skipped.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from typing import Final

#: Larger events are a fault of the upstream, not a stream.
LARGEST_EVENT: Final = 8 * 1024 * 1024

DONE: Final = b"[DONE]"
#: The end mark as most servers send it.
END: Final = b"data: [DONE]\n\n"
#: An end is at most four bytes: so many of those that came before may belong to it.
_BEFORE: Final = 3
BOM: Final = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
# A CR at the very end may be half of a CRLF: it ends an event only once more is known.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\Z))")


class EventTooLarge(Exception):
    """An event grew over LARGEST_EVENT without an end."""


class EventSplitter:
    """Cuts a stream into events, each with the blank line that ends it.

    The pieces of `feed` and the `rest` together are the bytes fed, in order.
    """

    __slots__ = ("_seen", "held")

    def __init__(self, begun: bytes = b"") -> None:
        #: The event that has begun and not ended.
        self.held = bytearray(begun)
        self._seen = max(len(begun) - _BEFORE, 0)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises EventTooLarge, and is of no use after."""
        found = None if self.held else whole_events(data)
        if found is not None:
            events, begun = found
            self.held += begun
            self._seen = max(len(begun) - _BEFORE, 0)
            return events
        size = len(self.held) + len(data)
        self.held += data
        events = self._cut(self.held)
        if size > LARGEST_EVENT and max(map(len, (self.held, *events))) > LARGEST_EVENT:
            raise EventTooLarge
        return events

    def _cut(self, buffer: bytearray) -> list[bytes]:
        events: list[bytes] = []
        start, search = 0, self._seen
        while (match := _BLANK.search(buffer, search)) is not None:
            events.append(bytes(buffer[start : match.end()]))
            start = search = match.end()
        del buffer[:start]
        self._seen = max(len(buffer) - _BEFORE, 0)
        return events

    def rest(self) -> bytes:
        """What is left when the stream has ended."""
        held, self.held, self._seen = bytes(self.held), bytearray(), 0
        return held


def whole_events(data: bytes) -> tuple[list[bytes], bytes] | None:
    """The events of a read as most are, and what has begun after them; None of any other."""
    if data.find(b"\r") >= 0 or len(data) > LARGEST_EVENT:
        return None
    *events, begun = data.split(b"\n\n")
    return [event + b"\n\n" for event in events], begun


def data_of(event: bytes) -> bytes | None:
    """The event's data, its lines joined by LF; None for comments and the like."""
    # `find`, for `in` takes the bytes for a number first, which costs an exception.
    if event.find(b"\n") + 2 == len(event) and event[:6] == b"data: " and event.find(b"\r") < 0:
        return event[6:-2]  # what most servers send
    lines = []
    for line in _LINE_END.split(event.removeprefix(BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None


def holds_data(events: bytes) -> bool:
    """Whether any of these has data: comments are no answer."""
    return any(map(data_of, EventSplitter().feed(events + b"\n\n")))


def event(data: bytes) -> bytes:
    """One event carrying `data`, which holds no line end."""
    return b"data: " + data + b"\n\n"
