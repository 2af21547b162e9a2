"""Counting one answer while it passes, sans I/O.

`feed` returns what the client is to get: every byte as it came, but for the one usage
event that the gateway asked for on its own account. What cannot hold a usage is kept when
it passes, and looked at together: for errors and end marks when somebody asks, for its text
once it is much, or where no usage comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.domain.sse import DONE, END, LARGEST_EVENT, EventSplitter, data_of
from proxy.domain.texts import Texts, decoded
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.usage import MOST, Outcome, Phase, Usage, read_usage

#: Bytes of a stream that are kept before their text is counted and let go.
_BATCH: Final = 32 * 1024

_USAGE = re.compile(rb'"usage"(?!\s*:\s*null)')
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')
_NO_USAGE: Final = b'"usage":null}\n\n'  # how most events end, since usage is asked for
_STREAMING: Final = Phase.STREAMING  # to look up a member of an enum takes as long as a search


class StreamMeter:
    """The meter of one request, streamed or not; usage above `most` is not believed.

    `complete` is true once the provider's own end mark has come, `error_sent` once an
    error event of the upstream's has passed to the client.
    """

    __slots__ = (
        "_begun",
        "_complete",
        "_delivered",
        "_error_sent",
        "_failed",
        "_hidden_output",
        "_looked",
        "_most",
        "_phase",
        "_splitter",
        "_texts",
        "_tokenizer",
        "_uncounted",
        "_usage",
        "_usage_wanted",
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        usage_wanted: bool,
        hidden_output: bool = False,
        most: Usage = MOST,
    ) -> None:
        self._most = most
        self._usage_wanted = usage_wanted
        self._hidden_output = hidden_output
        self._tokenizer = tokenizer
        self._splitter = EventSplitter()
        self._begun = False  # an event, which the splitter has
        self._uncounted = bytearray()
        self._looked = 0  # bytes of what is uncounted
        self._phase = Phase.NOT_CALLED
        self._complete = self._error_sent = self._failed = False
        self._usage: Usage | None = None
        self._delivered = 0
        self._texts: Texts | None = None

    @property
    def complete(self) -> bool:
        self._look()
        return self._complete

    @property
    def error_sent(self) -> bool:
        self._look()
        return self._error_sent

    def called(self) -> None:
        """The upstream is about to be asked: from here on it may bill."""
        self._phase = Phase.CALLED

    def refused(self) -> None:
        """The upstream failed, which is refunded where no answer had begun."""
        self._failed |= self._phase is not _STREAMING

    def feed(self, data: bytes) -> bytes:
        """What of `data`, and of what was held before it, goes to the client now.

        Raises EventTooLarge.
        """
        if (
            self._begun
            or len(data) > LARGEST_EVENT
            or not (self._phase is _STREAMING or data.startswith(b"data: {"))
        ):
            return self._cut(data)
        # After a brace this ends an event, whatever comes next and whichever line ends others
        # have: up to there, where no usage is told, no event need be looked at now.
        usage = data.find(b'"usage"')
        if data.endswith(b"}\n\n") if usage < 0 else data[usage:] == _NO_USAGE:
            self._phase = _STREAMING
            self._keep(data)
            return data
        told = _USAGE.search(data)
        plain = data.rfind(b"}\n\n", 0, told.start() if told else len(data)) + 3
        if plain < 3:
            return self._cut(data)
        self._phase = _STREAMING
        self._keep(data[:plain])
        return data[:plain] + self._cut(data[plain:])

    def rest(self) -> bytes:
        """The bytes of an event without an end, when the stream is over."""
        if not self._begun:
            return b""
        self._begun = False
        rest = self._splitter.rest()
        return rest if self._passes(rest) else b""

    def whole(self, body: bytes) -> bool:
        """The whole answer to a request that asked for no stream; whether it is one.

        Some providers answer 200 with an error, which may have a usage.
        """
        answer = decoded(body) or {}
        self._usage = _usage_of(answer, self._most)
        choices = answer.get("choices")
        if answer.get("error") or not isinstance(choices, list) or not choices:
            return False
        self._phase, self._complete = _STREAMING, True
        if self._usage is None or not self._usage.output:
            self._delivered += self._tokenizer.guess(Texts().of_answer(answer))
            if not self._delivered and self._usage is None:
                self.unseen()
        return True

    def unseen(self) -> None:
        """Output may have been made that never came here: the reserve is taken for it."""
        self._hidden_output = True

    def outcome(self) -> Outcome:
        """What to charge by; may be asked at any time, as the renewals do."""
        self._count_kept()
        phase = Phase.COMPLETE if self._complete else self._phase
        if self._failed and not self._delivered and self._usage is None:
            phase = Phase.REFUSED
        exact = self._tokenizer.exact
        return Outcome(phase, self._usage, self._delivered, self._hidden_output, exact)

    def _cut(self, data: bytes) -> bytes:
        """As `feed`, event by event."""
        events = self._splitter.feed(data)
        self._begun = bool(self._splitter.held)
        return b"".join([event for event in events if self._passes(event)])

    def _passes(self, event: bytes) -> bool:
        """Whether an event goes to the client; notes what it tells."""
        if event == END:
            self._phase, self._complete = _STREAMING, True
            return True
        # What most servers send needs no closer look.
        tells = event.find(b'"usage":{') >= 0 or _first_told(event) < len(event)
        if not tells and self._phase is _STREAMING:
            self._keep(event)
            return True
        data = data_of(event)
        if not data:
            return True  # comments are no answer
        self._phase = _STREAMING
        if data.strip() == DONE:
            self._complete = True
            return True
        self._keep(event)
        chunk = decoded(data) if tells else None
        if chunk is None:
            return True
        usage = _usage_of(chunk, self._most)
        if usage is not None:
            self._told(usage)
        if chunk.get("error"):
            self._error_sent = self._failed = True
            return True
        told = usage is not None or chunk.get("usage") is not None
        return self._usage_wanted or not told or chunk.get("choices") != []

    def _told(self, usage: Usage) -> None:
        """Some providers send a running total with every chunk: the last one stands, for all
        that came so far. One without output stands for the input alone.
        """
        if usage.output:
            self._look()
            self._uncounted.clear()
            self._looked = self._delivered = 0
        if usage.output or self._usage is None or not self._usage.output:
            self._usage = usage

    def _keep(self, data: bytes) -> None:
        kept = self._uncounted
        kept += data
        if len(kept) > _BATCH:
            self._count_kept()

    def _look(self) -> None:
        """Note what errors and end marks have passed since the last look."""
        kept, start = self._uncounted, self._looked
        self._looked = len(kept)
        if kept.find(b'"error"', start) < 0 and kept.find(b"[DONE]", start) < 0:
            return
        for event in EventSplitter().feed(bytes(kept[start:])):
            data = data_of(event) or b""
            if data.strip() == DONE:
                self._complete = True
            elif _ERROR.search(data) and (decoded(data) or {}).get("error"):
                self._error_sent = self._failed = True

    def _count_kept(self) -> None:
        if not self._uncounted:
            return
        self._look()
        kept = bytes(self._uncounted)
        self._uncounted.clear()
        self._looked = 0
        self._texts = self._texts or Texts()
        self._delivered += self._tokenizer.guess(self._texts.of_events(kept))


def _first_told(data: bytes) -> int:
    """Where the first of what may be usage, an error or the end mark is, or the data's length."""
    told = _USAGE.search(data)
    first = told.start() if told else len(data)
    if data.find(b'"error"') >= 0 and (told := _ERROR.search(data, 0, first)):
        first = told.start()
    done = data.find(b"[DONE]")
    return first if done < 0 else min(first, done)


def _usage_of(chunk: Mapping[str, Any], most: Usage) -> Usage | None:
    """The usage of a chunk; older Groq streams have it in a field of their own."""
    own = chunk.get("x_groq")
    return read_usage(chunk.get("usage"), most) or (
        read_usage(own.get("usage"), most) if isinstance(own, dict) else None
    )
