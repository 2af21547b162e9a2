"""Whether a target can be asked now: its breaker, its keys, what is under way on it. Pure.

Each worker knows of its own requests only. Times are in seconds of a clock that only goes
forward, and arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamRefused, UpstreamTimeout

if TYPE_CHECKING:
    from proxy.domain.routing import Target

#: Of so many seconds the failure rate is taken, where there were so many requests.
WINDOW: Final = 30.0
LEAST: Final = 20
#: A breaker that opens again and again waits no longer than this, unless it is told to.
LONGEST_PAUSE: Final = 60.0

#: Seconds for which a key that was refused steps aside; one that is limited, where the provider
#: does not say, and at most.
REFUSED: Final = 60.0
LIMITED: Final = 5.0
LONGEST_LIMITED: Final = 60.0

#: A target that names a longer wait is not asked again by the same request.
LONGEST_WAIT: Final = 2.0


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


CLOSED: Final = State.CLOSED


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """It opens after so many `failures` in a row (0: never), or where half of the requests of a
    WINDOW failed, and lets a probe pass after `pause` seconds.
    """

    failures: int = 5
    pause: float = 5.0


class Breaker:
    """A circuit breaker.

    `begin` gives each request an epoch, which it brings back with what became of it: what began
    before the last change says nothing of the state since. Of a success in the closed state only
    `served` has to be told, by adding to it.
    """

    __slots__ = (
        "_before",
        "_failed",
        "_opened",
        "_pause",
        "_rules",
        "_served_before",
        "_served_then",
        "_since",
        "_streak",
        "epoch",
        "served",
        "state",
        "until",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self.state = CLOSED
        self.epoch = 0
        self.served = 0
        self.until = 0.0  # while it is not closed: when the next probe may pass
        self._opened = -1  # the last epoch that is from before it opened
        self._pause = rules.pause
        self._streak = self._served_then = 0
        self._start(0.0)

    def lets(self, now: float) -> bool:
        """Whether a request may pass: one probe at a time while it is not closed."""
        return self.state is CLOSED or now >= self.until

    def begin(self, now: float) -> int:
        """A request that it lets pass begins; its epoch. A probe of which nothing is heard holds
        back the next one for as long as a failed one did.
        """
        if self.state is not CLOSED:
            self.state = State.HALF_OPEN
            self.epoch += 1
            self.until = now + self._pause
        return self.epoch

    def succeeded(self, epoch: int, now: float) -> None:
        """An answer has begun: any probe's closes it."""
        if self.state is not CLOSED and epoch > self._opened:
            self.state = CLOSED
            self.epoch += 1
            self._streak = 0
            self._start(now)

    def failed(self, epoch: int, now: float) -> None:
        """A request has failed before its answer began."""
        if epoch != self.epoch or not self._rules.failures:
            return
        if self.state is State.HALF_OPEN:
            longest = max(LONGEST_PAUSE, self._rules.pause)
            self._open(now, min(self._pause * 2, longest))
        elif self.state is CLOSED:
            self._streak = self._streak + 1 if self.served == self._served_then else 1
            self._served_then = self.served
            self._count(now)
            if self._streak >= self._rules.failures:
                self._open(now, self._rules.pause)

    def broke_off(self, epoch: int, now: float) -> None:
        """An answer that had begun has failed: that counts in the rate, in a success' place."""
        if epoch == self.epoch and self.state is CLOSED and self._rules.failures:
            self._roll(now)
            self._served_before += 1
            self._count(now)

    def left(self, epoch: int, now: float) -> None:
        """A request has ended without a verdict: if it was the probe, another may pass."""
        if epoch == self.epoch and self.state is State.HALF_OPEN:
            self.state, self.until = State.OPEN, now

    def _open(self, now: float, pause: float) -> None:
        self.state = State.OPEN
        self._opened = self.epoch
        self.epoch += 1
        self._pause, self.until = pause, now + pause

    def _start(self, now: float) -> None:
        self._since = now
        self._failed = 0
        self._served_before = self.served
        self._before = (0.0, 0.0)

    def _roll(self, now: float) -> None:
        """Begin another window where the last one is over; of that its average stands."""
        age = now - self._since
        if age >= WINDOW:
            scale = WINDOW / age
            before = (self._failed * scale, (self.served - self._served_before) * scale)
            self._start(now)
            self._before = before

    def _count(self, now: float) -> None:
        """A failure, and what it does to the rate."""
        self._roll(now)
        self._failed += 1
        share = 1 - (now - self._since) / WINDOW  # of the last window, what is within this one
        failed = self._failed + self._before[0] * share
        # Less than none where what broke off now had begun in the last window.
        served = max(0, self.served - self._served_before + self._before[1] * share)
        if failed + served >= LEAST and failed >= served:
            self._open(now, self._rules.pause)


class Standing:
    """A target of a model, as this worker finds it.

    `plain`: it can be asked with any of its keys, and no count is kept for that but `in_flight`.
    `keys` is how many API keys there are; without any there is one that is none.
    """

    __slots__ = ("_aside", "breaker", "disabled", "in_flight", "keys", "plain", "target")

    def __init__(self, target: Target, keys: int, rules: BreakerRules) -> None:
        self.target = target
        self.keys = max(keys, 1)
        self.breaker = Breaker(rules)
        self.in_flight = 0
        self.disabled = False
        self._aside: dict[int, float] = {}
        self.look()

    def look(self) -> None:
        """Find out whether it is `plain`, after anything that may change that."""
        closed = self.breaker.state is CLOSED
        self.plain = not (self.disabled or self._aside or self.target.concurrent) and closed

    def takes(self, now: float) -> bool:
        """Whether it may be asked at all."""
        return not (self.disabled or self.full) and self.breaker.lets(now)

    @property
    def full(self) -> bool:
        return 0 < self.target.concurrent <= self.in_flight

    def available(self, now: float) -> bool:
        """Whether requests come here as they usually do; one that is full for now counts."""
        return self.plain or (
            not self.disabled and self.breaker.state is CLOSED and self.at_hand(now) is not None
        )

    def begin(self, now: float) -> int:
        """A request is about to be sent, with this epoch."""
        epoch = self.breaker.begin(now)
        self.look()
        return epoch

    def set_aside(self, key: int, until: float) -> None:
        """Use that key no more until then, if there is another."""
        self._aside[key] = max(until, self._aside.get(key, 0.0))
        self.plain = False

    def at_hand(self, now: float, draw: float = 0.0, without: Collection[int] = ()) -> int | None:
        """A key that is not aside, nor one of `without`; None where there is none."""
        if self._aside:
            self._aside = {key: until for key, until in self._aside.items() if now < until}
            self.look()
        able = [k for k in range(self.keys) if k not in self._aside and k not in without]
        return able[int(draw * len(able))] if able else None

    def key(self, now: float, draw: float) -> int:
        """One that is at hand, else the one that is soonest."""
        if not self._aside:
            return int(draw * self.keys)
        found = self.at_hand(now, draw)
        return found if found is not None else min(self._aside, key=self._aside.__getitem__)


class Lesson(NamedTuple):
    """What a failure before the first byte teaches.

    `elsewhere`: another target or key may do better; `again`: so may the same one, later;
    `counts`: against the target's breaker; `aside`: seconds for which the key steps aside.
    """

    elsewhere: bool = False
    again: bool = False
    counts: bool = False
    aside: float = 0.0


_NOTHING: Final = Lesson()
_BROKEN: Final = Lesson(elsewhere=True, again=True, counts=True)
_LATE: Final = Lesson(elsewhere=True, counts=True)  # twice as late would be no better
_NO_API: Final = Lesson(elsewhere=True, counts=True)  # a redirect, a 204: it will stay so
_KEY_REFUSED: Final = Lesson(elsewhere=True, aside=REFUSED)
_OF_STATUS: Final[Mapping[int, Lesson]] = {
    0: _BROKEN,
    200: _BROKEN,
    401: _KEY_REFUSED,
    402: _KEY_REFUSED,
    403: _KEY_REFUSED,
    408: _BROKEN,
    409: Lesson(elsewhere=True, again=True),
    429: Lesson(elsewhere=True, aside=LIMITED),
}


def lesson_of(failure: GatewayError, status: int, headers: Mapping[str, str]) -> Lesson:
    """The lesson of a call that ended with `failure`; `status` and `headers` are the upstream's,
    0 where it did not answer.
    """
    if not isinstance(failure, UpstreamFailed | UpstreamRefused):
        return _NOTHING  # the gateway's own doing
    if isinstance(failure, UpstreamTimeout):
        return _LATE
    usual = _NO_API if status < 400 else _NOTHING
    lesson = _BROKEN if status >= 500 else _OF_STATUS.get(status, usual)
    waiting = retry_after(headers)
    if waiting is None:
        waiting = retry_after(failure.headers)  # some tell it in the body alone
    if status == 429:
        spent = isinstance(failure, UpstreamRefused) and b'"insufficient_quota"' in failure.body
        aside = REFUSED if spent else LIMITED if waiting is None else waiting
        return lesson._replace(aside=min(aside, LONGEST_LIMITED))
    if lesson.again and waiting is not None and waiting > LONGEST_WAIT:
        return lesson._replace(again=False)
    return lesson


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait; None where it does not say, or names a date.

    Sources: RFC 9110, 10.2.3; `retry-after-ms` is Azure's, and known to OpenAI's SDKs.
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    return None
