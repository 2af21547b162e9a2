"""Prometheus: values in, series out. Labels come from the config, the store or this file."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from proxy import __version__
from proxy.domain.identity import KeyRecord
from proxy.domain.limits import NANO
from proxy.domain.quota import State
from proxy.domain.usage import Charge

# A second sample for each series, of which nobody asked when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: What several workers' gauges are together.
Of = Literal["livesum", "livemax", "livemostrecent"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_FIRST: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60)
_GAP: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)

#: Where a request's own time in the gateway goes.
STAGES: Final = ("authenticate", "read", "validate", "images", "estimate", "reserve")


class Fetches:
    """What the fetcher of images tells."""

    def __init__(self, seconds: Tally, cache: Family) -> None:
        self._seconds = seconds
        self._cache = cache

    def fetched(self, outcome: str, seconds: float, size: int) -> None:
        self._seconds.observe(seconds)

    def cached(self, result: str) -> None:
        self._cache.labels(result).inc()


class Tally:
    """One series of a histogram, counted in plain numbers until somebody looks."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._clear()

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def taken(self) -> tuple[list[int], float]:
        """What has come since the last time: how many by bucket, and their sum."""
        taken = self._counts, self._total
        self._clear()
        return taken

    def _clear(self) -> None:
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0


class Tallies:
    """A histogram's series as tallies: to observe a value then costs a tenth."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def labels(self, *labels: str) -> Tally:
        tally = self._tallies.get(labels)
        if tally is None:
            tally = self._tallies[labels] = Tally(self._bounds)
        return tally

    def tell(self) -> None:
        """Have the histogram count what the tallies have."""
        for labels, tally in self._tallies.items():
            counts, total = tally.taken()
            child = self._histogram.labels(*labels) if labels else self._histogram
            child._sum.inc(total)
            for bucket, count in zip(child._buckets, counts, strict=True):
                if count:
                    bucket.inc(count)


class Family:
    """A counter's series by their labels: to look one up takes longer than to count."""

    def __init__(self, counter: Counter) -> None:
        self.labels = cache(counter.labels)


class Metrics:
    """Every series of this process. `max_keys`: further keys are counted as key="other"."""

    def __init__(self, *, max_keys: int = 1000, config_hash: str = "") -> None:
        self.registry = CollectorRegistry()
        self._max_keys = max_keys
        self._keys: dict[str, str] = {}
        self._tallies: list[Tallies] = []
        self._shown: list[tuple[Gauge, Callable[[], float]]] = []

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"visiongate_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: Iterable[str] = (), of: Of = "livesum") -> Gauge:
            made = f"visiongate_{name}"
            return Gauge(made, text, labels, registry=self.registry, multiprocess_mode=of)

        def histogram(
            name: str, text: str, labels: Iterable[str], buckets: tuple[float, ...]
        ) -> Tallies:
            made = Histogram(
                f"visiongate_{name}", text, labels, registry=self.registry, buckets=buckets
            )
            self._tallies.append(Tallies(made, buckets))
            return self._tallies[-1]

        def counters(name: str, text: str, labels: Iterable[str]) -> Family:
            return Family(counter(name, text, labels))

        whose = ("team", "key", "model")
        served = ("model", "provider")
        self.requests = counters(
            "requests", "Requests by what was answered.", (*whose, "provider", "status")
        )
        self.tokens = counters("tokens", "Tokens charged.", (*whose, "kind", "source"))
        self.cached = counters("cached_tokens", "Charged input tokens read from a cache.", whose)
        self.image_tokens = counters("image_tokens", "Charged input tokens of images.", whose)
        self.cost = counters("cost_usd", "USD charged.", whose)
        limit = ("team", "unit", "window")
        last: Of = "livemostrecent"
        self.limit_amount = gauge("limit_amount", "A team's limits for all models.", limit, last)
        self.limit_used = gauge("limit_used", "Used of a team's limits.", limit, last)
        self.rejections = counters("rejections", "Requests refused here.", ("team", "reason"))
        self.images = counters("images", "Images judged.", ("verdict", "reason", "format"))
        self.image_bytes = counter("image_bytes", "Bytes of images sent in requests.")
        self.fetches = Fetches(
            histogram("image_fetch_seconds", "One image's way here.", (), _FIRST).labels(),
            counters("image_cache", "Looks into the images kept.", ("result",)),
        )
        self.request_seconds = histogram(
            "request_seconds", "From the request's head to the answer's end.", served, _SECONDS
        )
        self.first_seconds = histogram(
            "time_to_first_token_seconds",
            "From the request's head to the first bytes of the answer.",
            served,
            _FIRST,
        )
        self.chunk_gap = histogram(
            "chunk_gap_seconds", "Between two pieces of a stream.", served, _GAP
        )
        self.store_seconds = histogram("store_seconds", "One script's way.", ("op",), _STAGE)
        self.overhead = histogram("overhead_seconds", "Time in the gateway.", ("stage",), _STAGE)
        self.streams = gauge("streams_active", "Streams open.")
        self.streams_ended = counters("streams_ended", "Streams by how they ended.", ("reason",))
        self.reserved = gauge("tokens_reserved", "Tokens reserved by requests in flight.")
        self.journal = gauge("journal_entries", "Settlements on disk that wait for the store.")
        self.attempts = counters(
            "upstream_attempts", "Requests sent to providers.", ("provider", "outcome")
        )
        self.alarms = counters("alarms", "What an operator must look into.", ("event",))
        self.store_errors = counter("store_errors", "Times the store could not be reached.")
        gauge("workers", "Workers running.").set(1)
        config = gauge("config_info", "The config in use.", ("hash",), "livemax")
        config.labels(config_hash).set(1)
        build = gauge("build_info", "The release running.", ("version",), "livemax")
        build.labels(__version__).set(1)

    def show(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Have a gauge show what the function returns whenever its value is told."""
        self._shown.append((gauge, value))

    def render(self) -> bytes:
        """The exposition text of this process' series."""
        self.tell()
        return generate_latest(self.registry)

    def tell(self) -> None:
        """Hand prometheus_client what was counted since the last time."""
        for tallies in self._tallies:
            tallies.tell()
        for gauge, value in self._shown:
            gauge.set(value())

    def key_label(self, key: KeyRecord) -> str:
        """The key's name, or "other" once `max_keys` of them have been seen."""
        name = self._keys.get(key.id)
        if name is None:
            if len(self._keys) >= self._max_keys:
                return OTHER
            name = self._keys[key.id] = key.name
        return name

    def charged(self, key: KeyRecord, model: str, charge: Charge) -> None:
        """Count a charge as the ledger settles it."""
        whose = (key.team, self.key_label(key), model)
        amounts = charge.amounts
        self.tokens.labels(*whose, "input", charge.source).inc(amounts.input)
        self.tokens.labels(*whose, "output", charge.source).inc(amounts.output)
        self.cached.labels(*whose).inc(charge.cached)
        self.image_tokens.labels(*whose).inc(charge.image)
        self.cost.labels(*whose).inc(amounts.usd / NANO)

    def stored(self, op: str, seconds: float) -> None:
        """Observe one call of a script of the store's."""
        self.store_seconds.labels(op).observe(seconds)

    def limits(self, team: str, states: Iterable[State]) -> None:
        """Show a team's limits; those on one model have no place in these series."""
        for state in states:
            limit = state.bound.limit
            scale = NANO if limit.unit == "usd" else 1
            labels = (team, limit.unit, limit.window)
            self.limit_amount.labels(*labels).set(state.amount / scale)
            self.limit_used.labels(*labels).set((state.used + state.reserved) / scale)

    def image(self, verdict: str, reason: str, format: str, size: int) -> None:
        """Count an image judged."""
        self.images.labels(verdict, reason, format).inc()
        self.image_bytes.inc(size)
