"""Series in plain numbers, until somebody looks: what prometheus_client's cost a request is ten
times as much.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from prometheus_client import Counter, Histogram

#: Values of a series that wait for their buckets: to sort them holds the loop for 0.1 ms.
_KEPT: Final = 1000


class Counts(defaultdict[tuple[str, ...], float]):
    """A counter's series by their labels, in plain numbers until somebody looks."""

    def __init__(self, counter: Counter) -> None:
        super().__init__(float)
        self._counter = counter

    def tell(self) -> None:
        """Have the counter count what has come since the last time."""
        for labels, count in self.items():
            (self._counter.labels(*labels) if labels else self._counter).inc(count)
        self.clear()


class Tally:
    """One series of a histogram: its values until somebody looks, or they are too many."""

    __slots__ = ("_bounds", "_counts", "_total", "_values")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._values: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        self._values.append(value)
        if len(self._values) >= _KEPT:
            self._fold()

    def extend(self, values: Iterable[float]) -> None:
        self._values.extend(values)
        if len(self._values) >= _KEPT:
            self._fold()

    def taken(self) -> tuple[list[int], float]:
        """What has come since the last time: how many by bucket, and their sum."""
        self._fold()
        taken = self._counts, self._total
        self._counts, self._total = [0] * len(self._counts), 0.0
        return taken

    def _fold(self) -> None:
        """Put the values into their buckets: in their order, so that a bound is one search."""
        values, self._values = sorted(self._values), []
        ends = [bisect_right(values, bound) for bound in self._bounds]
        for bucket, (start, end) in enumerate(pairwise((0, *ends, len(values)))):
            self._counts[bucket] += end - start
        self._total += sum(values)


class Tallies(dict[tuple[str, ...], Tally]):
    """A histogram's series by their labels: to observe a value then costs a tenth."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = bounds

    def __missing__(self, labels: tuple[str, ...]) -> Tally:
        tally = self[labels] = Tally(self._bounds)
        return tally

    def labels(self, *labels: str) -> Tally:
        return self[labels]

    def tell(self) -> None:
        """Have the histogram count what the tallies have."""
        for labels, tally in self.items():
            counts, total = tally.taken()
            child = self._histogram.labels(*labels) if labels else self._histogram
            child._sum.inc(total)
            for bucket, count in zip(child._buckets, counts, strict=True):
                if count:
                    bucket.inc(count)
