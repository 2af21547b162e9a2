"""The headers that tell a client of its limits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final

from proxy.domain.identity import Bound
from proxy.domain.usage import OF_UNIT, Amounts
from proxy.domain.windows import whole_at

Count = Callable[[Amounts], int]

#: Which of the headers tell of a unit.
_KINDS: Final = {
    "requests": "requests",
    "tokens": "tokens",
    "input tokens": "tokens",
    "output tokens": "tokens",
}
_NOTHING: Final = Amounts(0, 0, 0, 0, 0)

#: Names of headers (the limit, what remains of it, when it is whole again), and the limits that
#: they may tell of: each what a request takes of it, its window, and where its figures begin.
Shown = tuple[tuple[tuple[str, str, str], tuple[tuple[Count, str, int], ...]], ...]


def shown_of(bounds: Iterable[Bound]) -> Shown:
    """What the headers may tell of limits whose figures come in this order, three to each."""
    found: defaultdict[str, list[tuple[Count, str, int]]] = defaultdict(list)
    for index, bound in enumerate(bounds):
        limit = bound.limit
        if limit.unit in _KINDS:
            found[_KINDS[limit.unit]].append((OF_UNIT[limit.unit], limit.window, 3 * index))
    prefix = "x-ratelimit"
    return tuple(
        ((f"{prefix}-limit-{kind}", f"{prefix}-remaining-{kind}", f"{prefix}-reset-{kind}"), (*of,))
        for kind, of in found.items()
    )


def limit_headers(
    shown: Shown, figures: Sequence[int], asked: Amounts | None, now: int
) -> dict[str, str]:
    """`x-ratelimit-*` of the request and of the token limit with the smallest share left.

    `figures` are used, reserved and the amount of each limit at `now` (ms); `asked` is what was
    reserved since they were read, if anything was.
    """
    headers: dict[str, str] = {}
    taken = asked or _NOTHING
    for (limit, remaining, reset), candidates in shown:
        least = math.inf
        for count, window, at in candidates:
            used, amount = figures[at] + count(taken), figures[at + 2]
            left = amount - used - figures[at + 1]
            share = left / amount if left > 0 else 0.0
            if share < least:
                least, told = share, (window, used, amount, left)
        window, used, amount, left = told
        end = whole_at(window, used, amount, now)
        headers[limit] = str(amount)
        headers[remaining] = str(left if left > 0 else 0)
        if end is not None:
            headers[reset] = duration(end - now)
    return headers


def duration(ms: int) -> str:
    """A span as OpenAI's headers have it: 20ms, 1s, 6m0s, 3h0m2s."""
    return f"{ms}ms" if ms < 1000 else _clock(-(-ms // 1000))


@lru_cache(64)  # a calendar window ends alike for all that ask within a second
def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
