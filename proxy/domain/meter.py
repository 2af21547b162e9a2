"""Counting one answer while it passes, sans I/O.

`feed` returns what the client is to get: every byte as it came, but for the one usage
event that the gateway asked for on its own account, and up to an error, which ends a stream: its
form is not every server's, and an end mark may follow it. What holds neither is kept when it
passes, and looked at together: for end marks when somebody asks, for its text once it is much, or
where no usage comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.domain.sse import DONE, END, LARGEST_EVENT, EventSplitter, data_of, whole_events
from proxy.domain.texts import Texts, decoded
from proxy.domain.tokenizer import Tokenizer
from proxy.domain.told import Told, may_tell, told_by, untold, usage_of
from proxy.domain.usage import (
    CALLED,
    COMPLETE,
    MOST,
    NOT_CALLED,
    REFUSED,
    STREAMING,
    Outcome,
    Usage,
    read_usage,
)

#: Bytes of a stream that are kept before their text is counted and let go.
_BATCH: Final = 32 * 1024

#: How most events end, after its name: usage is asked for.
_NULL: Final = b":null}\n\n"

#: How they end elsewhere, but for the last of a choice; an error does not.
_GOES_ON: Final = b"null}]}\n\n"

#: How most streams end: one event that tells the usage is before it.
_LAST: Final = b"}\n\n" + END


class StreamMeter:
    """The meter of one request, streamed or not; usage above `most` is not believed.

    `complete` is true once the provider's own end mark has come. `error` is the data of the
    upstream's error event, where one has come before that: nothing passes from there on. `so_far`
    is asked, where there is one, until output has been told: what is known all the same, and
    whether some is hidden.
    """

    __slots__ = (
        "_complete",
        "_delivered",
        "_failed",
        "_hidden_output",
        "_kept",
        "_looked",
        "_most",
        "_phase",
        "_size",
        "_splitter",
        "_texts",
        "_tokenizer",
        "_usage",
        "_usage_wanted",
        "error",
        "so_far",
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
        self._phase = NOT_CALLED
        self._start()

    def _start(self) -> None:
        self._splitter: EventSplitter | None = None  # it has the event that has begun
        self._kept: list[bytes] = []  # what has passed, and is not counted yet
        self._size = 0  # of that
        self._looked = 0  # how many of them have been looked at
        self._complete = self._failed = False
        self.error: bytes | None = None
        self._usage: Usage | None = None
        self._delivered = 0
        self._texts: Texts | None = None
        self.so_far: Callable[[], tuple[Mapping[str, Any] | None, bool]] | None = None

    @property
    def complete(self) -> bool:
        self._look()
        return self._complete

    @property
    def well(self) -> bool:
        """Whether all has come: the end mark, no error, and nothing that has no end."""
        self._look()
        return self._complete and self.error is None and self._splitter is None

    def called(self) -> None:
        """An upstream is about to be asked: from here on it may bill, whatever another said."""
        if self._phase is not NOT_CALLED:
            self._start()
        self._phase = CALLED

    def refused(self) -> None:
        """The upstream failed, which is refunded where no answer had begun."""
        self._failed |= self._phase is not STREAMING

    def feed(self, data: bytes) -> bytes:
        """What of `data`, and of what was held before it, goes to the client now.

        Raises EventTooLarge.
        """
        # After a brace two line ends end an event, whatever comes next and whichever ends others
        # have: up to there, where no usage is told, no event need be looked at now.
        before, told, after = data.partition(b'"usage"')  # a third of what `find` costs
        if self._splitter is not None or len(data) > LARGEST_EVENT:
            return self._cut(data)
        if self._phase is not STREAMING:
            if not data.startswith(b"data: {"):
                return self._cut(data)
        elif after == _NULL or (not told and data[-9:] == _GOES_ON):
            self._kept.append(data)  # as `_keep` does, here for each chunk of every stream
            self._size += len(data)
            if self._size > _BATCH:
                self._count_kept()
            return data
        if data.find(b'"error"') >= 0:
            return self._cut(data)
        end = untold(data, len(before) if told else -1)
        if end:
            self._phase = STREAMING
            self._keep(data[:end])
        rest = data[end:]
        passed = self._last(rest) if end and rest[-len(_LAST) :] == _LAST else self._cut(rest)
        return data if len(passed) == len(rest) else data[:end] + passed

    def rest(self) -> bytes:
        """The bytes of an event without an end, when the stream is over. Where that is not complete
        they are for nobody, and their text does not count; a usage does.
        """
        if self._splitter is None:
            return b""
        rest, self._splitter = self._splitter.rest(), None
        if self.error is not None:
            return b""
        if self._kept:
            self._count_kept()
        phase, delivered = self._phase, self._delivered
        passes = self._passes(rest)
        if not self.complete:
            self._let_go()
            self._phase, self._delivered = phase, min(delivered, self._delivered)
        return rest if passes else b""

    def whole(self, body: bytes) -> bool:
        """The whole answer to a request that asked for no stream; whether it is one.

        Some providers answer 200 with an error, which may have a usage.
        """
        answer = decoded(body) or {}
        self._usage = usage_of(answer.get("usage"), answer.get("x_groq"), self._most)
        choices = answer.get("choices")
        if answer.get("error") or not isinstance(choices, list) or not choices:
            return False
        self._phase, self._complete = STREAMING, True
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
        if self._kept:
            self._count_kept()
        phase = COMPLETE if self._complete else self._phase
        if self._failed and not self._delivered and self._usage is None:
            phase = REFUSED
        usage, hidden = self._usage, self._hidden_output
        if self.so_far is not None and (usage is None or not usage.output):
            told, hides = self.so_far()
            usage, hidden = usage or read_usage(told, self._most), hidden or hides
        return Outcome(phase, usage, self._delivered, hidden, self._tokenizer.exact)

    def _cut(self, data: bytes) -> bytes:
        """As `feed`, event by event."""
        if self.error is not None:
            return b""
        found = whole_events(data) if self._splitter is None else None
        if found is not None:
            events, begun = found
            if begun:
                self._splitter = EventSplitter(begun)
        else:
            splitter = self._splitter or EventSplitter()
            events = splitter.feed(data)
            self._splitter = splitter if splitter.held else None
        passed = []
        for event in events:
            if self._passes(event):
                passed.append(event)
            elif self.error is not None:
                self._splitter = EventSplitter()  # so that what follows comes here
                break
        return b"".join(passed)

    def _last(self, data: bytes) -> bytes:
        """As `_cut`, of what ends as most streams do."""
        if data.count(b"\n") != 4 or data[:7] != b"data: {" or data.find(b"\r") >= 0:
            return self._cut(data)
        chunk = told_by(data[6 : -len(END)])
        if chunk is None or chunk.failed:
            return self._cut(data)
        event = data[: -len(END)]
        told = event if self._tells(event, chunk) else b""
        if self._ends():
            return told + END
        self._splitter = EventSplitter()  # so that what follows comes here
        return told

    def _passes(self, event: bytes) -> bool:
        """Whether an event goes to the client; notes what it tells."""
        # What most servers send needs no closer look.
        if event == END:
            self._phase = STREAMING
            return self._ends()
        tells = event.find(b'"usage":{') >= 0 or may_tell(event)
        if not tells and self._phase is STREAMING:
            self._keep(event)
            return True
        data = data_of(event)
        if not data:
            return True  # comments are no answer
        self._phase = STREAMING
        if data.strip() == DONE:
            return self._ends()
        chunk = told_by(data) if tells else None
        if chunk is None:
            self._keep(event)
            return True
        if chunk.failed and not self.complete:
            self.error, self._failed = data, True
        return self._tells(event, chunk) and self.error is None

    def _tells(self, event: bytes, chunk: Told) -> bool:
        """Note what an event tells; whether the client asked for such."""
        usage = usage_of(chunk.usage, chunk.x_groq, self._most)
        if usage is None or not usage.output:
            if self.error is None:
                self._keep(event)
        else:
            # Some providers send a running total with every chunk: the last one stands, for all
            # that came so far. One without output stands for the input alone.
            self._let_go()
            self._delivered = 0
        if usage is not None and (usage.output or self._usage is None or not self._usage.output):
            self._usage = usage
        told = usage is not None or chunk.usage is not None
        return self._usage_wanted or not told or chunk.choices != []

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._size += len(data)
        if self._size > _BATCH:
            self._count_kept()

    def _ends(self) -> bool:
        """Whether an end mark may pass: not after an error."""
        self._look()
        if self.error is None:
            self._complete = True
        return self._complete

    def _look(self) -> None:
        """Note what end marks have passed, and errors: one that came in one read with what follows
        it may have.
        """
        if self._looked == len(self._kept):
            return
        kept = b"".join(self._kept[self._looked :])
        self._looked = len(self._kept)
        if kept.find(b'"error"') < 0 and kept.find(b"[DONE]") < 0:
            return
        for event in EventSplitter().feed(kept):
            data = data_of(event) or b""
            if data.strip() == DONE:
                self._complete |= self.error is None
            elif data.find(b'"error"') >= 0 and not self._complete:
                told = told_by(data)
                if told is not None and told.failed:
                    self.error, self._failed = self.error or data, True

    def _let_go(self) -> None:
        """Of what is kept, once it is looked at."""
        self._look()
        self._kept.clear()
        self._size = self._looked = 0

    def _count_kept(self) -> None:
        kept = b"".join(self._kept)
        self._let_go()
        self._texts = self._texts or Texts()
        self._delivered += self._tokenizer.guess(self._texts.of_events(kept))
