"""The scripts when the store was away: leases are spared, what went on without it is posted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.store.figures import CLOCK
from tests.store.scripts import (
    DAY,
    LEASE,
    MINUTE,
    NOTHING,
    SPARE,
    Bound,
    Scripts,
    at,
    connect,
    tokens,
)

NOON = at("2026-11-22T12:00:00")
END = NOON + LEASE
BUDGET = Bound(100)
DAILY = Bound(100, "tokens", "day")


@pytest.fixture
def scripts(store_url: str) -> Iterator[Scripts]:
    with connect(store_url) as client:
        yield Scripts(client, watched=False)


def test_a_silence_spares_leases(scripts: Scripts) -> None:
    """After a silence a lease that ran out in it is not freed before it can be renewed."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    back = END + MINUTE
    assert scripts.reserve("r2", tokens(30), BUDGET, now=back)[0] == "refused"
    assert scripts.renew(("r1", tokens(5)), now=back + SPARE - 1) == ["live"]
    assert scripts.peek(BUDGET, now=back + SPARE) == [0, 80, 100]
    assert scripts.contents().leases == {"r1": back + SPARE - 1 + LEASE}


def test_spared_only_for_a_while(scripts: Scripts) -> None:
    """A lease that nobody renews after a silence is freed a little later."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    back = END + MINUTE
    assert scripts.sweep(now=back) == 0
    assert scripts.sweep(now=back + SPARE - 1) == 0
    assert scripts.sweep(now=back + SPARE) == 1


def test_no_silence(scripts: Scripts) -> None:
    """Where somebody looks at a team all the time, its leases run out on time."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    scripts.peek(now=NOON + SPARE)
    assert scripts.sweep(now=END) == 1


def test_a_clock_far_ahead_spares_nothing(scripts: Scripts) -> None:
    """What a clock that was hours ahead has spared is not spared for hours."""
    scripts.reserve("r1", tokens(1), now=NOON - DAY)
    scripts.sweep(now=NOON + DAY)
    assert scripts.sweep(now=NOON) == 1


def test_posted_once(scripts: Scripts) -> None:
    """What was admitted without the store is charged to windows, buckets and row, once."""
    bucket = Bound(600, "tokens", "minute")
    for answer in ("posted", "absent"):
        charged = (1, 30, 20, 2, 500)
        found = scripts.post(
            "r1", charged, bucket, now=NOON, admitted=NOON - 1, cached=7, image=9, provider="p2"
        )
        assert found == answer
    assert scripts.peek(BUDGET, DAILY, bucket, now=NOON) == [50, 0, 100, 50, 0, 100, 50, 0, 600]
    found_rows = scripts.contents().rows
    assert found_rows == {"2026-11-22|k1|m1|p2": [1, 30, 20, 7, 9, 2, 500]}


def test_posted_to_its_own_day(scripts: Scripts) -> None:
    """What was admitted before midnight and is posted after it belongs to the day before."""
    midnight = at("2026-12-01T00:00:00")
    scripts.post("r1", tokens(30), now=midnight + MINUTE, admitted=midnight - 1)
    assert scripts.peek(BUDGET, DAILY, now=midnight + MINUTE) == [30, 0, 100, 0, 0, 100]
    assert scripts.contents().rows == {"2026-11-30|k1|m1|p1": [1, 30, 0, 0, 0, 0, 0]}


def test_posted_at_most_once_for_seven_days(scripts: Scripts) -> None:
    """A posting is known for as long as a journal is replayed."""
    scripts.post("r1", tokens(30), now=NOON, admitted=NOON)
    assert scripts.post("r1", tokens(30), now=NOON + 7 * DAY - 1, admitted=NOON) == "absent"
    assert scripts.reserve("r1", tokens(1), now=NOON + 7 * DAY - 1) == ["gone"]
    scripts.sweep(now=NOON + 7 * DAY)
    assert scripts.contents().reservations == {}


def test_writings_are_numbered(scripts: Scripts) -> None:
    """Each script that writes tells a number above all before it."""
    told = [
        scripts.run("peek", NOON, b"", CLOCK)[1],
        scripts.run("peek", NOON, b"", CLOCK)[1],
        scripts.run("post", NOON, "r1", "k1", "m1", "p1", NOON, *NOTHING, 0, 0)[1],
        scripts.run("post", NOON, "r2", "k1", "m1", "p1", NOON, *NOTHING, 0, 0)[1],
    ]
    assert told == [1, 2, 3, 4]
