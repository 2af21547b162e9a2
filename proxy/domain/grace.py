"""What a worker may admit on its own account while the store is away.

A share of each limit, divided by the workers that were alive when the store was last seen, and
at least one request. It is one allowance a window, however often the store goes away in it: it
comes back as the window turns, and as what was admitted turns out to be less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from proxy.domain.identity import Bound
from proxy.domain.limits import ANY_MODEL, NANO, Limit
from proxy.domain.usage import Amounts
from proxy.domain.windows import MINUTE, stamp_of

#: A team, and one limit of its own or of a key's.
_Place = tuple[str, str, tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one request took: places with their windows' stamps."""

    asked: Amounts
    places: tuple[tuple[_Place, int, str], ...]


class Grace:
    """The allowance of one worker; `share` is of each limit, from 0 to 1.

    There is none before `open`: a worker that has just come is one that others do not know of.
    What a worker has admitted it knows for its own life: one that starts anew has it all again.
    """

    def __init__(self, share: Decimal) -> None:
        self.share = share
        self._taken: dict[_Place, tuple[int, int]] = {}  # the window's stamp, and how much
        self.workers = 1
        self.open = False

    def counted(self, alive: int, *, steady: bool) -> None:
        """So many workers are alive, by the store. `steady`: it has been there for so long that
        each of them has been heard; until then it may know of fewer than there are.
        """
        self.open = self.open or steady
        self.workers = alive if steady else max(alive, self.workers)

    def admit(
        self, team: str, bounds: Iterable[Bound], asked: Amounts, now: int
    ) -> Admitted | None:
        """Take the worst case of a request from every limit, or nothing; `now` in ms."""
        if not self.open:
            return None
        places = []
        for bound in bounds:
            more = asked.of(bound.limit.unit)
            if not more:
                continue
            place = (team, bound.scope, bound.limit.slot)
            stamp = _stamp(bound.limit, now)
            taken, whole = self._of(place, stamp), _amount(bound, now)
            first = not taken and more <= whole
            if not first and taken + more > whole * self.share / self.workers:
                return None
            places.append((place, stamp, bound.limit.unit))
        for place, stamp, unit in places:
            self._taken[place] = (stamp, self._of(place, stamp) + asked.of(unit))
        return Admitted(asked, tuple(places))

    def end(self, admitted: Admitted, used: Amounts) -> None:
        """A request is over: what it did not use may be admitted again."""
        for place, stamp, unit in admitted.places:
            if place in self._taken and self._taken[place][0] == stamp:
                spent = 0 if unit == "concurrent" else used.of(unit)
                taken = self._of(place, stamp) + spent - admitted.asked.of(unit)
                self._taken[place] = (stamp, max(0, taken))

    def _of(self, place: _Place, stamp: int) -> int:
        last, taken = self._taken.get(place, (stamp, 0))
        return taken if last == stamp else 0


def _stamp(limit: Limit, now: int) -> int:
    return now // MINUTE if limit.window == "minute" else stamp_of(limit.window, now)


def _amount(bound: Bound, now: int) -> int:
    granted = bound.stamp == stamp_of(bound.limit.window, now)
    return bound.limit.amount + (bound.grant if granted else 0)


def most_over(bounds: Iterable[Bound], share: Decimal) -> dict[str, int | float]:
    """The most that all workers together can admit over these limits, summed by unit and window;
    beside it one request of each worker, where a share is smaller than that. usd in usd.

    Limits on a model count where their owner has none for all models.
    """
    found = list(bounds)
    whole = {(b.owner, *b.limit.slot[:2]) for b in found if b.limit.model == ANY_MODEL}
    sums: Counter[tuple[str, str]] = Counter()
    for bound in found:
        limit = bound.limit
        if limit.model == ANY_MODEL or (bound.owner, limit.unit, limit.window) not in whole:
            sums[limit.unit, limit.window] += int((limit.amount + bound.grant) * share)
    return {
        f"{unit}/{window}": float(Decimal(most) / NANO) if unit == "usd" else most
        for (unit, window), most in sorted(sums.items())
    }
