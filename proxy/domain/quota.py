"""What the ledger's figures mean to a client: refusals, and when there is room again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import msgspec

from proxy.domain.errors import LimitExceeded
from proxy.domain.identity import Bound
from proxy.domain.limits import ANY_MODEL, format_amount
from proxy.domain.ratelimits import duration, limit_headers, shown_of
from proxy.domain.usage import Amounts
from proxy.domain.windows import MINUTE, stamp_of, whole_at, window_end

#: Where only requests in flight are in the way, one of them may end at any moment.
_SOON: Final = 1_000

#: Every request asks for some of each of these.
_ALWAYS_ASKED: Final = frozenset(("requests", "tokens", "input tokens"))

#: How a request asks for less of a unit.
_LESS: Final = {
    "tokens": "lower max_tokens or n, shorten the prompt or send fewer images",
    "input tokens": "shorten the prompt or send fewer images",
    "output tokens": "lower max_tokens or n",
    "images": "send fewer images",
    "usd": "lower max_tokens or n, shorten the prompt, send fewer images or take a cheaper model",
}
_LESS_WHEN_SHRUNK: Final = "shorten the prompt, send fewer images or lower n"

#: How what is asked for is told of.
_AT_MOST: Final = "may need"
_AT_LEAST: Final = "needs at least"


class State(msgspec.Struct, frozen=True):
    """A limit as the ledger found it; `amount` includes a grant. Read at one `now`."""

    bound: Bound
    used: int
    reserved: int
    amount: int

    @property
    def remaining(self) -> int:
        return max(0, self.amount - self.used - self.reserved)

    @property
    def name(self) -> str:
        return str(replace(self.bound.limit, amount=self.amount))


def resets_at(state: State, now: int) -> int | None:
    """When the limit is whole again, in ms, if nothing more is used; None: never."""
    return whole_at(state.bound.limit.window, state.used, state.amount, now)


@dataclass(frozen=True, slots=True)
class _Failure:
    state: State
    asked: int
    wait: int | None  # ms until it may fit; None: never by waiting
    quota: bool = False
    busy: bool = False  # only what is in flight is in the way


@dataclass(frozen=True, slots=True)
class Spent:
    """What was found when a key was refused: `states` at `now` (ms).

    Where one of them is used up for every request, so are those that follow, until its window
    turns or something is given back.
    """

    states: tuple[State, ...]
    now: int
    support: str

    def refusal(self, now: int) -> LimitExceeded | None:
        """The 429 of whatever request comes at `now` (ms); None: it may have room."""
        spent = [s for s in self.states if _leaves_nothing(s) and not _turned(s, self.now, now)]
        if not spent:
            return None
        failed = [_failure(state, 1, now) for state in spent]
        return _refused(failed, self.states, now, self.support, "")


def _leaves_nothing(state: State) -> bool:
    limit = state.bound.limit
    always = limit.unit in _ALWAYS_ASKED and limit.model == ANY_MODEL and limit.window != "minute"
    return always and state.used >= state.amount


def _turned(state: State, since: int, now: int) -> bool:
    window = state.bound.limit.window
    return stamp_of(window, since) != stamp_of(window, now)


def _failure(state: State, asked: int, now: int) -> _Failure:
    limit = state.bound.limit
    if limit.window != "minute" and limit.unit != "concurrent":
        if state.used + asked > state.amount:
            end = None if asked > state.amount else window_end(limit.window, now)
            return _Failure(state, asked, None if end is None else end - now, quota=True)
        return _Failure(state, asked, _SOON, busy=True)
    if asked > state.amount or not state.amount:
        return _Failure(state, asked, None)
    if limit.unit == "concurrent":
        return _Failure(state, asked, _SOON, busy=True)
    over = state.used + asked - state.amount
    return _Failure(state, asked, max(1, -(-over * MINUTE // state.amount)))


def failures(states: Iterable[State], asked: Amounts) -> list[State]:
    """The limits that have no room for what is asked."""
    return [state for state in states if _over(state, asked) > 0]


def _over(state: State, asked: Amounts) -> int:
    more = asked.of(state.bound.limit.unit)
    # What asks for nothing needs no room, however full it is: a text where images are spent.
    return state.used + state.reserved + more - state.amount if more else -1


def refusal(
    states: Sequence[State], asked: Amounts, now: int, support: str, *, shrunk: bool = False
) -> LimitExceeded:
    """The 429 for limits without room, of at least one; `now` in ms.

    Not to be retried: a request larger than a limit, and a budget that is spent. `shrunk`: less
    output cannot be asked for.
    """
    # A bucket's level has fractions, which the figures have not: it may lack less than one.
    short = failures(states, asked) or [max(states, key=lambda s: _over(s, asked))]
    failed = [_failure(s, asked.of(s.bound.limit.unit), now) for s in short]
    return _refused(failed, states, now, support, _AT_LEAST if shrunk else _AT_MOST)


def _refused(
    failed: Sequence[_Failure], states: Sequence[State], now: int, support: str, needs: str
) -> LimitExceeded:
    never = [f for f in failed if f.wait is None and not f.quota]
    spent = [f for f in failed if f.quota]
    worst = max(never or spent or failed, key=_patience)
    headers = _headers(states, now)
    if never or spent:
        headers["x-should-retry"] = "false"
    if all(f.wait is not None for f in failed):
        wait = max(f.wait or 0 for f in failed)
        headers["retry-after"] = str(-(-wait // 1000))
        headers["retry-after-ms"] = str(wait)
    quota = worst.quota
    return LimitExceeded(
        " ".join(filter(None, (_found(worst, needs), _advice(worst, now, needs), support))),
        type="insufficient_quota" if quota else _kind(worst.state),
        code="insufficient_quota" if quota else "rate_limit_exceeded",
        headers=headers,
    )


def _headers(states: Sequence[State], now: int) -> dict[str, str]:
    figures = [figure for s in states for figure in (s.used, s.reserved, s.amount)]
    return limit_headers(shown_of(s.bound for s in states), figures, None, now)


def _patience(failure: _Failure) -> float:
    return math.inf if failure.wait is None else failure.wait


def _kind(state: State) -> str:
    unit = state.bound.limit.unit
    return "tokens" if "tokens" in unit or unit == "usd" else "requests"


def _found(failure: _Failure, needs: str) -> str:
    state, unit = failure.state, failure.state.bound.limit.unit
    used, reserved = format_amount(state.used, unit), format_amount(state.reserved, unit)
    asked = f", and this request {needs} {format_amount(failure.asked, unit)}" if needs else ""
    return (
        f"The limit of {state.name} of the {state.bound.owner} has no room: {used} used, "
        f"{reserved} reserved by requests in flight{asked}."
    )


def _advice(failure: _Failure, now: int, needs: str) -> str:
    state, unit = failure.state, failure.state.bound.limit.unit
    less = _LESS_WHEN_SHRUNK if needs == _AT_LEAST else _LESS.get(unit, "")
    if not state.amount:
        return "It allows none; ask your platform team."
    if failure.asked > state.amount:
        return f"It can never fit: {less}."
    if failure.busy:
        return "Try again when they have ended."
    if state.bound.limit.window == "minute":
        return f"There is room in {duration(failure.wait or 0)}."
    left = state.remaining if less else 0
    fitting = f" To fit into the {format_amount(left, unit)} left, {less}." if left else ""
    return _turn(failure.wait, now) + fitting


def _turn(wait: int | None, now: int) -> str:
    if wait is None:
        return "It does not reset; ask your platform team for more."
    when = datetime.fromtimestamp((now + wait) / 1000, UTC)
    return f"It resets at {when:%Y-%m-%dT%H:%M:%SZ}, in {duration(wait)}."
