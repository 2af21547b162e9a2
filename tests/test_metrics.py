"""What is counted in plain numbers, and what a scrape then shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from proxy import tallies
from proxy.metrics import Metrics
from proxy.tallies import Tallies

BOUNDS = (0.1, 1.0, 10.0)
VALUES = st.lists(st.floats(0, 20) | st.sampled_from(BOUNDS))


def shown(told: Metrics, name: str, **labels: str) -> float | None:
    return told.registry.get_sample_value(f"visiongate_{name}", labels)


@given(st.lists(VALUES, max_size=4), st.integers(1, 5))
def test_a_tally_is_the_histogram(scrapes: list[list[float]], kept: int) -> None:
    """However many values wait for their buckets, and whenever somebody looks, the buckets are
    those of a histogram that has observed each value.
    """
    registry = CollectorRegistry()
    told = Histogram("told", "", ["x"], registry=registry, buckets=BOUNDS)
    plain = Histogram("plain", "", ["x"], registry=registry, buckets=BOUNDS)
    series = Tallies(told, BOUNDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "_KEPT", kept)
        for values in scrapes:
            for value in values:
                series["a",].observe(value)
                plain.labels("a").observe(value)
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
