"""Prometheus: values in, series out. Labels come from the config, the store or this file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import sub
from typing import Any, Final, Literal

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
from proxy.tallies import Counts, Tallies, Tally

# A second sample for each series, of which nobody asked when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: What several workers' gauges are together.
Of = Literal["livesum", "livemax", "livemin", "livemostrecent"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"

#: When this process, or the one that it was forked from, began to count.
_STARTED: Final = time.time()

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_FIRST: Final = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60)
_GAP: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STAGE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)

#: Rows that wait to be counted: they hold the loop for 0.2 ms.
_KEPT: Final = 100

#: What an operator must look into, of a worker and of their master.
ALARMS: Final = (
    "charges_lost",
    "chore_failed",
    "journal_failed",
    "metrics_unwritten",
    "reservation_lost",
    "settlement_refused",
    "store_went_backwards",
)
MASTER_ALARMS: Final = ("fork_failed", "reload_refused", "worker_died", "worker_hangs")

#: Where a request's own time in the gateway goes.
STAGES: Final = ("authenticate", "read", "validate", "images", "estimate", "reserve")


class Fetches:
    """What the fetcher of images tells."""

    def __init__(self, seconds: Tally, cache: Counts) -> None:
        self._seconds = seconds
        self._cache = cache

    def fetched(self, outcome: str, seconds: float, size: int) -> None:
        self._seconds.observe(seconds)

    def cached(self, result: str) -> None:
        self._cache[result,] += 1


def alarms(registry: CollectorRegistry) -> Counter:
    return Counter(
        "visiongate_alarms", "What an operator must look into.", ("event",), registry=registry
    )


#: Whether the key of that id has a name in the metrics; the same for all workers.
Named = Callable[[str], bool]


def first(most: int) -> Named:
    """Names the first so many keys that it is asked about."""
    ids: set[str] = set()

    def named(id: str) -> bool:
        if len(ids) < most:
            ids.add(id)
        return id in ids

    return named


class Metrics:
    """Every series of this process. Keys that are not `named` are counted as key="other"."""

    def __init__(self, *, named: Named | None = None, config_hash: str = "") -> None:
        self.registry = CollectorRegistry()
        self._named = named or first(1000)
        self._keys: set[str] = set()
        self._limits: dict[str, set[tuple[str, ...]]] = {}
        self._served: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
        self._charged: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
        self._waiting = 0
        self._told: list[Counts | Tallies] = []
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
            tallies = Tallies(made, buckets)
            self._told.append(tallies)
            return tallies

        def counters(name: str, text: str, labels: Iterable[str]) -> Counts:
            counts = Counts(counter(name, text, labels))
            self._told.append(counts)
            return counts

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
        self.image_bytes = counters("image_bytes", "Bytes of images sent in requests.", ())
        self.fetches = Fetches(
            histogram("image_fetch_seconds", "One image's way here.", (), _FIRST)[()],
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
        self.streaming = 0
        self.show(gauge("streams_active", "Streams open."), lambda: self.streaming)
        self.streams_ended = counters("streams_ended", "Streams by how they ended.", ("reason",))
        self.reserved = gauge("tokens_reserved", "Tokens reserved by requests in flight.")
        self.journal = gauge("journal_entries", "Settlements on disk that wait for the store.")
        self.attempts = counters(
            "upstream_attempts", "Requests sent to providers.", ("provider", "outcome")
        )
        self.available = gauge(
            "target_available",
            "Whether requests go to a target as they usually do.",
            ("provider", "model"),
            "livemin",
        )
        self.alarms = Counts(alarms(self.registry))
        self._told.append(self.alarms)
        self.alarms.update({(event,): 0.0 for event in ALARMS})
        self.store_errors = counter("store_errors", "Times the store could not be reached.")
        gauge("workers", "Workers running.").set(1)
        since = gauge("start_time_seconds", "Since when the counters count.", of="livemin")
        since.set(_STARTED)
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
        """Have `registry` count what was counted in plain numbers since the last time."""
        self._count()
        for told in self._told:
            told.tell()
        for gauge, value in self._shown:
            gauge.set(value())

    def key_label(self, key: KeyRecord) -> str:
        """The key's name, or "other" where too many others have one."""
        if key.id not in self._keys:
            if not self._named(key.id):
                return OTHER
            self._keys.add(key.id)
        return key.name

    def served(
        self, who: tuple[str, ...], seconds: float, first: float | None, times: Sequence[float]
    ) -> None:
        """Count a request that held a reservation. `who`: its team, key, model, provider, status
        and how it ended; `first`: seconds to its first byte; `times`: when it began, and when
        each of STAGES was over.
        """
        self._served[who].append((seconds, first, *times))
        self._added()

    def charged(self, key: KeyRecord, model: str, charge: Charge) -> None:
        """Count a charge as the ledger settles it."""
        amounts = charge.amounts
        self._charged[key.team, self.key_label(key), model, charge.source].append(
            (amounts.input, amounts.output, charge.cached, charge.image, amounts.usd)
        )
        self._added()

    def _added(self) -> None:
        """A row was added: they are counted together, column by column, which costs much less."""
        self._waiting += 1
        if self._waiting >= _KEPT:
            self._count()

    def _count(self) -> None:
        for (*who, model, provider, status, ended), rows in self._served.items():
            seconds, firsts, *times = zip(*rows, strict=True)
            begun = [first for first in firsts if first is not None]
            self.requests[*who, model, provider, status] += len(rows)
            if ended:  # else it was over before any was made
                self.attempts[provider, ended] += len(rows)
            self.request_seconds[model, provider].extend(seconds)
            if begun:
                self.first_seconds[model, provider].extend(begun)
                self.streams_ended[ended,] += len(begun)
            for stage, (before, after) in zip(STAGES, pairwise(times), strict=True):
                self.overhead[stage,].extend(map(sub, after, before))
        for (*whose, source), rows in self._charged.items():
            input, output, cached, image, usd = map(sum, zip(*rows, strict=True))
            self.tokens[*whose, "input", source] += input
            self.tokens[*whose, "output", source] += output
            self.cached[*whose,] += cached
            self.image_tokens[*whose,] += image
            self.cost[*whose,] += usd / NANO
        self._served.clear()
        self._charged.clear()
        self._waiting = 0

    def stored(self, op: str) -> Callable[[float], None]:
        """What observes the calls of a script of the store's."""
        return self.store_seconds[op,].observe

    def limits(self, team: str, states: Iterable[State]) -> None:
        """Show a team's limits; those on one model have no place in these series. Of one that it
        has no more, amount and use are 0: a series of several processes cannot be taken back.
        """
        shown: set[tuple[str, ...]] = set()
        for state in states:
            limit = state.bound.limit
            scale = NANO if limit.unit == "usd" else 1
            labels = (team, limit.unit, limit.window)
            shown.add(labels)
            self.limit_amount.labels(*labels).set(state.amount / scale)
            self.limit_used.labels(*labels).set((state.used + state.reserved) / scale)
        for gone in self._limits.get(team, shown) - shown:
            self.limit_amount.labels(*gone).set(0)
            self.limit_used.labels(*gone).set(0)
        self._limits[team] = shown

    def image(self, verdict: str, reason: str, format: str, size: int) -> None:
        """Count an image judged."""
        self.images[verdict, reason, format] += 1
        self.image_bytes[()] += size
