"""What is counted in plain numbers, and what a scrape then shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Histogram

from proxy import metrics, tallies
from proxy.domain.identity import KeyRecord
from proxy.domain.usage import Amounts, Charge
from proxy.metrics import STAGES, Metrics, first
from proxy.tallies import Tallies

BOUNDS = (0.1, 1.0, 10.0)
WHO = ("vision", "ci", "gpt-4o", "openai", "200", "complete")
VALUES = st.lists(st.floats(0, 20) | st.sampled_from(BOUNDS))


def shown(told: Metrics, name: str, **labels: str) -> float | None:
    return told.registry.get_sample_value(f"visiongate_{name}", labels)


@given(st.lists(st.lists(VALUES, max_size=3), max_size=4), st.integers(1, 5), st.booleans())
def test_a_tally_is_the_histogram(
    scrapes: list[list[list[float]]], kept: int, together: bool
) -> None:
    """However many values wait for their buckets, and whenever somebody looks, the buckets are
    those of a histogram that has observed each value.
    """
    registry = CollectorRegistry()
    told = Histogram("told", "", ["x"], registry=registry, buckets=BOUNDS)
    plain = Histogram("plain", "", ["x"], registry=registry, buckets=BOUNDS)
    series = Tallies(told, BOUNDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "_KEPT", kept)
        for rows in scrapes:
            for values in rows:
                if together:
                    series["a",].extend(values)
                for value in values:
                    plain.labels("a").observe(value)
                    if not together:
                        series["a",].observe(value)
            series.tell()
    for bound in ("0.1", "1.0", "10.0", "+Inf"):
        labels = {"x": "a", "le": bound}
        found = registry.get_sample_value("told_bucket", labels)
        assert (found or 0) == (registry.get_sample_value("plain_bucket", labels) or 0)


def test_values_that_wait_are_bounded() -> None:
    """A histogram that nobody looks at keeps no more than so many values."""
    told = Metrics()
    tally = told.chunk_gap["gpt-4o", "openai"]
    for _ in range(10 * tallies._KEPT):
        tally.observe(0.02)
    assert len(tally._values) < tallies._KEPT
    told.tell()
    labels = {"model": "gpt-4o", "provider": "openai"}
    assert shown(told, "chunk_gap_seconds_count", **labels) == 10 * tallies._KEPT


@pytest.mark.parametrize("what", ["served", "charged"])
def test_rows_that_wait_are_bounded(what: str) -> None:
    """Of requests and charges that nobody looks at no more than so many wait; all are counted."""
    told = Metrics()
    key = KeyRecord(id="key_1", team="vision", name="ci", created_at=1)
    charge = Charge(Amounts(1, 12, 3, 0, 0), 0, 0, "upstream")
    add: Callable[[], None] = {
        "served": lambda: told.served(WHO, 1.0, None, range(len(STAGES) + 1)),
        "charged": lambda: told.charged(key, "gpt-4o", charge),
    }[what]
    count = 10 * metrics._KEPT
    for _ in range(count):
        add()
        waiting = [*told._served.values(), *told._charged.values()]
        assert sum(map(len, waiting)) < metrics._KEPT
    whose = {"team": "vision", "key": "ci", "model": "gpt-4o"}
    told.tell()
    if what == "served":
        assert shown(told, "requests_total", **whose, provider="openai", status="200") == count
    else:
        kinds = {"kind": "input", "source": "upstream"}
        assert shown(told, "tokens_total", **whose, **kinds) == 12 * count


def test_each_stage_has_its_own_time() -> None:
    """Of a request's times, a stage's is from the end of the one before to its own."""
    told = Metrics()
    for begin in (100.0, 200.0):
        told.served(WHO, 1.0, None, [begin + 2**stage for stage in range(len(STAGES) + 1)])
    told.tell()
    sums = [shown(told, "overhead_seconds_sum", stage=stage) for stage in STAGES]
    assert sums == [2 * 2**stage for stage in range(len(STAGES))]


def test_counts_are_told_once() -> None:
    """What was told is not told again by the next look."""
    told = Metrics()
    told.alarms["store_went_backwards",] += 1
    for _ in range(2):
        told.tell()
        assert shown(told, "alarms_total", event="store_went_backwards") == 1
    told.alarms["store_went_backwards",] += 2
    told.tell()
    assert shown(told, "alarms_total", event="store_went_backwards") == 3


def test_a_count_of_nothing_makes_a_series() -> None:
    """A part of a charge that is zero is shown as zero, not left out."""
    told = Metrics()
    told.cached["vision", "ci", "gpt-4o"] += 0
    told.tell()
    assert shown(told, "cached_tokens_total", team="vision", key="ci", model="gpt-4o") == 0


def test_a_renamed_key() -> None:
    """A key has the name that it has now, so that another one may have its old one; of those that
    are too many it is none the more.
    """
    metrics = Metrics(named=first(1))
    key = KeyRecord(id="key_1", team="vision", name="ci", created_at=1)
    other = KeyRecord(id="key_2", team="vision", name="ci", created_at=2)
    named = [metrics.key_label(each) for each in (key, replace(key, name="old"), other)]
    assert named == ["ci", "old", "other"]
