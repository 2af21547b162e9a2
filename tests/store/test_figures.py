"""What goes to the ledger's scripts as packed numbers, and what is read of those that they keep."""

from __future__ import annotations

import math
import struct

import pytest

from proxy.domain.identity import Bound
from proxy.domain.limits import LARGEST, Limit
from proxy.domain.windows import DAY, window_of
from proxy.store.figures import admitted, bucket_words, counters_of, pack_limits

KEYS = ["clock", "team|*", "team|m1", "key:k1|*", "key:k1|m1"]


def packed(limit: Limit, scope: str = "team", grant: int = 0, stamp: int = -1) -> tuple[float, ...]:
    """One limit among the counters of a request."""
    bound = Bound(limit, scope, "", grant, stamp)
    return struct.unpack("<8d", pack_limits([bound], counters_of("k1", "m1")))


def test_the_counters_of_a_request() -> None:
    """The clock, and what the team and the key use of all models and of this one."""
    assert counters_of("k1", "m1") == KEYS


@pytest.mark.parametrize(
    ("limit", "scope", "kind", "places"),
    [
        (Limit(9, "requests", "minute"), "team", 0, (6, 0)),
        (Limit(9, "requests", "hour", "m1"), "team", 1, (3, 0)),
        (Limit(9, "requests", "day"), "team", 2, (2, 6)),
        (Limit(9, "requests", "month"), "key:k1", 3, (4, 6)),
        (Limit(9, "requests", "total", "m1"), "key:k1", 4, (5, 6)),
        (Limit(9, "concurrent", "total"), "team", 5, (2, 0)),
    ],
)
def test_where_a_limit_is_counted(
    limit: Limit, scope: str, kind: int, places: tuple[int, int]
) -> None:
    """In a bucket, or in a tally and, where its window is more than the hour, in its past."""
    assert packed(limit, scope)[:3] == (kind, *places)


def test_counters_are_read_once() -> None:
    """Limits of one counter share its place."""
    bounds = [Bound(Limit(9, unit, "day"), "team", "") for unit in ("requests", "tokens", "usd")]
    bounds.append(Bound(Limit(9, "tokens", "minute"), "team", ""))
    counters = counters_of("k1", "m1")
    pack_limits(bounds, counters)
    assert counters == [*KEYS, "past|team|*", "team|tokens|minute|*"]


def test_what_a_limit_allows() -> None:
    """Amount and grant to the last one, and the time in which the grant adds to it."""
    limit = Limit(LARGEST, "usd", "month")
    assert packed(limit, grant=LARGEST - 1, stamp=24323)[3:] == (
        *(5, LARGEST, LARGEST - 1),
        *window_of("month", 24323),
    )
    assert packed(limit)[-3:] == (0, 0, 0)
    assert packed(Limit(1, "usd", "total"), grant=7, stamp=0)[-3:] == (7, 0, math.inf)


def test_a_bucket_as_post_takes_it() -> None:
    """Its counter, its amount, and which of a request's amounts it counts."""
    bound = Bound(Limit(60, "tokens", "minute", "m1"), "key:k1", "")
    assert bucket_words(bound) == ("key:k1|tokens|minute|m1", 60, 6)


@pytest.mark.parametrize(("state", "when"), [(0, DAY), (1, DAY), (2, None)])
def test_what_is_in_flight(state: int, when: int | None) -> None:
    """A reservation is, from its admission until its lease has run out."""
    assert admitted(struct.pack("<15d", DAY, state, *[0] * 13)) == when
    assert admitted(b"") is None
