"""What the ledger's scripts should do, as sums over a list: a small model for the state machine.

It has the calls of `Scripts` and predicts their answers. It keeps no counters: every figure
is added up anew from what was posted and what is held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

from tests.store.scripts import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    SPARE,
    WINDOWS,
    Bound,
    Contents,
    Five,
    stamps,
)

AT_ONCE = 20
LOOKING = 500
KEEP, KEEP_VOID = 7 * DAY, 10 * MINUTE
PARTS = {
    "requests": (0,),
    "tokens": (1, 2),
    "input tokens": (1,),
    "output tokens": (2,),
    "images": (3,),
    "usd": (4,),
}


def of(amounts: Sequence[int], unit: str) -> int:
    return sum(amounts[part] for part in PARTS[unit])


@dataclass
class Posted:
    """What a request was charged."""

    writing: int
    admitted: int
    key: str
    model: str
    provider: str
    amounts: Five
    cached: int = 0
    image: int = 0


@dataclass
class Held:
    """A reservation that is live, or `expired` at a time and charged `posted`, or void."""

    writing: int = 0
    key: str = ""
    model: str = ""
    provider: str = ""
    admitted: int = 0
    amounts: Five = (0, 0, 0, 0, 0)
    lease_end: int = 0
    buckets: tuple[Bound, ...] = ()
    counted: Five = (0, 0, 0, 0, 0)
    observed: bool = False
    expired: int | None = None
    posted: Posted | None = None

    def charge(self, amounts: Five, provider: str, cached: int = 0, image: int = 0) -> Posted:
        return Posted(
            self.writing, self.admitted, self.key, self.model, provider, amounts, cached, image
        )


NOTHING: Five = (0, 0, 0, 0, 0)


class Turns(NamedTuple):
    """A tally's windows: which they are, and the writing that began each. It holds what was written
    since then and was admitted in them: where the clock goes back into one, that begins anew.
    """

    stamps: Mapping[str, int]
    since: dict[str, int]

    def hold(self, x: Held | Posted, window: str) -> bool:
        mine = stamps(x.admitted)[window] == self.stamps[window]
        return mine and x.writing >= self.since[window]


@dataclass
class Bucket:
    since: int
    level: Fraction
    amount: int

    def at(self, now: int, amount: int) -> Fraction:
        level = self.level if amount == self.amount else min(self.level, Fraction(amount))
        return max(Fraction(0), level - Fraction(abs(now - self.since) * amount, MINUTE))


@dataclass
class Model:
    """One team's ledger."""

    seen: int = 0
    spared: int = 0
    writings: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    postings: list[Posted] = field(default_factory=list)
    buckets: dict[tuple[str, str, str], Bucket] = field(default_factory=dict)
    turns: dict[tuple[str, str], Turns] = field(default_factory=dict)

    @property
    def live(self) -> dict[str, Held]:
        return {id: held for id, held in self.held.items() if held.expired is None}

    @property
    def dead(self) -> dict[str, int]:
        return {id: held.expired for id, held in self.held.items() if held.expired is not None}

    def reserve(
        self,
        id: str,
        amounts: Five,
        *limits: Bound,
        now: int,
        key: str,
        model: str,
        provider: str,
        force: bool = False,
        usd_in: int = 0,
    ) -> list[Any]:
        now = self._tick(now)
        self._sweep(now, AT_ONCE)
        figures = [self.figures(limit, now) for limit in limits]
        told = [now, *(figure for three in figures for figure in three)]
        if (before := self.held.get(id)) is not None:
            verdict = "observed" if before.observed else "ok"
            return [verdict, *told] if before.expired is None else ["gone"]
        fits = all(
            (asked := 1 if limit.unit == "concurrent" else of(amounts, limit.unit)) == 0
            or used + reserved + asked <= most
            for limit, (used, reserved, most) in zip(limits, figures, strict=True)
        )
        if not fits and not force:
            return ["refused", *told]
        minutes = tuple(limit for limit in limits if limit.window == "minute")
        for limit in minutes:
            most = None if fits else limit.amount
            self._fill(limit, now, of(amounts, limit.unit), limit.amount, most)
        counted = (amounts[0], amounts[1], 0, amounts[3], usd_in)
        end, who = now + LEASE, (self.writings, key, model, provider, now)
        self._turn(key, model, now)
        self.held[id] = Held(*who, amounts, end, minutes, counted, observed=not fits)
        return ["ok" if fits else "observed", *told]

    def settle(
        self,
        id: str,
        amounts: Five,
        *,
        now: int,
        provider: str,
        cached: int,
        image: int,
        void: bool = False,
    ) -> str:
        held = self.held.get(id)
        if (not void and held is None) or (held is not None and not held.key):
            return "absent"
        now = self._tick(now)
        self.held.pop(id, None)
        if void:
            self.held[id] = Held(expired=now - KEEP + KEEP_VOID)
        if held is None:
            return "absent"
        if held.posted is not None:
            self.postings.remove(held.posted)
        self.postings.append(held.charge(amounts, provider, cached, image))
        before = held.amounts if held.expired is None else held.counted
        self._refill(held, now, before, amounts)
        self._sweep(now, AT_ONCE)
        return "settled" if held.expired is None else "late"

    def post(
        self,
        id: str,
        amounts: Five,
        *limits: Bound,
        now: int,
        admitted: int,
        key: str,
        model: str,
        provider: str,
        cached: int,
        image: int,
    ) -> str:
        if id in self.held:
            return "absent"
        now = self._tick(now)
        for limit in limits:
            if limit.window == "minute":
                self._fill(limit, now, of(amounts, limit.unit), limit.amount)
        self._turn(key, model, now)
        self.postings.append(
            Posted(self.writings, min(admitted, now), key, model, provider, amounts, cached, image)
        )
        self.held[id] = Held(expired=now)
        self._sweep(now, AT_ONCE)
        return "posted"

    def renew(self, *so_far: tuple[str, Five], now: int) -> list[str]:
        now = self._tick(now)
        self._sweep(now, AT_ONCE)
        live = self.live
        for id, counted in so_far:
            if id in live:
                live[id].counted, live[id].lease_end = counted, now + LEASE
        return ["live" if id in live else "gone" for id, _ in so_far]

    def sweep(self, *, now: int, most: int) -> int:
        return self._sweep(self._tick(now), most)

    def peek(self, *limits: Bound, now: int) -> list[int]:
        now = self._tick(now)
        self._sweep(now, LOOKING)
        return [figure for limit in limits for figure in self.figures(limit, now)]

    def figures(self, limit: Bound, now: int) -> tuple[int, int, int]:
        """Used, reserved and amount of a limit."""
        if limit.window == "minute":
            bucket = self.buckets.get((limit.scope, limit.unit, limit.model))
            level = bucket.at(now, limit.amount) if bucket else Fraction(0)
            return math.ceil(level), 0, limit.amount
        name, stamp = (limit.scope, limit.model), stamps(now)[limit.window]
        amount = limit.amount + (limit.grant if limit.stamp == stamp else 0)
        held = list(_within(self.live.values(), limit.scope, limit.model))
        if limit.unit == "concurrent":
            return 0, len(held), amount
        if name not in self.turns or self.turns[name].stamps[limit.window] != stamp:
            return 0, 0, amount
        posted, turns = _within(self.postings, limit.scope, limit.model), self.turns[name]
        used, reserved = (
            sum(of(x.amounts, limit.unit) for x in some if turns.hold(x, limit.window))
            for some in (posted, held)
        )
        return used, reserved, amount

    def agrees(self, found: Contents) -> None:
        """Assert that the store holds what it should, in every window of every tally."""
        assert found.leases == {id: held.lease_end for id, held in self.live.items()}
        assert found.expired == self.dead
        assert found.reservations.keys() == self.held.keys()
        assert found.rows == self._rows()
        if self.writings:
            clock = found.clock
            assert (clock.seen, clock.writings) == (self.seen, self.writings)
            assert (
                clock.today == f"{datetime.fromtimestamp(self.seen // 1000, UTC):%Y-%m-%d}".encode()
            )
            ends = [held.lease_end for held in self.live.values()]
            assert clock.due <= min(
                [math.inf, *ends, *(gone + KEEP for gone in self.dead.values())]
            )
        assert found.tallies.keys() == {"|".join(name) for name in self.turns}
        for (scope, model), turns in self.turns.items():
            name = f"{scope}|{model}"
            tally = found.tallies[name]
            assert tally.stamps == turns.stamps, name
            held = list(_within(self.live.values(), scope, model))
            posted = list(_within(self.postings, scope, model))
            assert tally.live == len(held), name
            for window in WINDOWS:
                for kept, some in ((tally.posted, posted), (tally.reserved, held)):
                    inside = [x.amounts for x in some if turns.hold(x, window)]
                    assert kept[window] == [sum(x[i] for x in inside) for i in range(5)], (
                        name,
                        window,
                    )
        buckets = {f"{s}|{u}|minute|{m}": b for (s, u, m), b in self.buckets.items()}
        assert found.buckets.keys() == buckets.keys()
        for name, (since, level, amount) in found.buckets.items():
            assert (since, amount) == (buckets[name].since, buckets[name].amount), name
            assert math.isclose(level, buckets[name].level, abs_tol=1e-6), name

    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, Counter[int]] = {}
        for p in self.postings:
            day = datetime.fromtimestamp(p.admitted // 1000, UTC).date()
            requests, input, output, images, nano = p.amounts
            row = rows.setdefault(f"{day}|{p.key}|{p.model}|{p.provider}", Counter())
            row.update(dict(enumerate((requests, input, output, p.cached, p.image, images, nano))))
        return {n: [row[i] for i in range(7)] for n, row in rows.items() if any(row.values())}

    def _clock(self, now: int) -> int:
        return self.seen if now < self.seen < now + HOUR else now

    def _tick(self, now: int) -> int:
        now = self._clock(now)
        if 0 < self.seen < now - SPARE:
            self.spared = now + SPARE
        self.seen = now
        self.writings += 1
        return now

    def _turn(self, key: str, model: str, now: int) -> None:
        """What is admitted brings its tallies to the time of now."""
        new = stamps(now)
        for name in product(("team", f"key:{key}"), ("*", model)):
            old = self.turns.get(name, Turns({}, {}))
            self.turns[name] = Turns(
                new,
                {
                    window: old.since[window]
                    if old.stamps.get(window) == new[window]
                    else self.writings
                    for window in WINDOWS
                },
            )

    def _sweep(self, now: int, most: int) -> int:
        due = sorted((held.lease_end, id) for id, held in self.live.items())
        spared = 0 < self.spared - now <= SPARE
        due = [] if spared else [(end, id) for end, id in due if end <= now][:most]
        for _, id in due:
            held = self.held[id]
            held.expired, held.posted = now, held.charge(held.counted, held.provider)
            self.postings.append(held.posted)
            self._refill(held, now, held.amounts, held.counted)
        old = sorted((expired, id) for id, expired in self.dead.items())
        for _, id in [(expired, id) for expired, id in old if expired <= now - KEEP][:most]:
            del self.held[id]
        return len(due)

    def _fill(
        self,
        limit: Bound,
        now: int,
        more: int | Fraction,
        amount: int | None = None,
        most: int | None = None,
    ) -> None:
        name = (limit.scope, limit.unit, limit.model)
        old = self.buckets.get(name) or Bucket(now, Fraction(0), limit.amount)
        rate = old.amount if amount is None else amount
        level = max(Fraction(0), old.at(now, rate) + more)
        self.buckets[name] = Bucket(
            now, level if most is None else min(level, Fraction(most)), rate
        )

    def _refill(self, held: Held, now: int, before: Five, after: Five) -> None:
        for limit in held.buckets:
            was, comes_to = of(before, limit.unit), of(after, limit.unit)
            rate = self.buckets[limit.scope, limit.unit, limit.model].amount
            leaked = Fraction((now - held.admitted) * rate, MINUTE)
            back = min(Fraction(was - comes_to), max(Fraction(0), was - leaked))
            self._fill(limit, now, comes_to - was if comes_to > was else -back)


def _within(some: Any, scope: str, model: str) -> Iterator[Any]:
    for x in some:
        if scope in ("team", f"key:{x.key}") and model in ("*", x.model):
            yield x
