"""Comments in streams that are silent: what stands between here and a client closes what says
nothing.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

#: Both official SDKs, as every reader of events, pass over a comment.
#: Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (9.2.6: authoring notes)
COMMENT: Final = b": keep-alive\n\n"

#: Of the interval: how late a comment may be, so that many streams are looked at together.
_LATE: Final = 1 / 8


class Silent(Protocol):
    """A stream that may fall silent."""

    def speak(self, now: float, interval: float) -> float:
        """Say something where its client has heard nothing for so long; when to ask again."""


class Pulse:
    """The streams of a worker, and the one timer that walks them; none while there are none.

    `interval`: seconds of silence before a comment; 0: there are none.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._streams: set[Silent] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: Silent) -> None:
        if self._interval:
            self._streams.add(stream)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._interval, self._beat)

    def discard(self, stream: Silent) -> None:
        self._streams.discard(stream)

    def stop(self) -> None:
        self._interval = 0.0
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._timer = None
        interval, now = self._interval, monotonic()
        due = [stream.speak(now, interval) for stream in tuple(self._streams)]
        if due:
            wait = max(min(due) - now, interval * _LATE)
            self._timer = asyncio.get_running_loop().call_later(wait, self._beat)
