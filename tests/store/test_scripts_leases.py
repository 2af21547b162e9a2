"""The life of a reservation: settled once, renewed, swept, late, given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.store.scripts import (
    DAY,
    KEY_RECORD,
    LEASE,
    MINUTE,
    NOTHING,
    TEAM_RECORD,
    Bound,
    Scripts,
    at,
    connect,
    tokens,
)

NOON = at("2026-11-22T12:00:00")
MIDNIGHT = at("2026-12-01T00:00:00")
END = NOON + LEASE
WEEK = 7 * DAY
BUDGET = Bound(100)


@pytest.fixture
def scripts(store_url: str) -> Iterator[Scripts]:
    with connect(store_url) as client:
        yield Scripts(client)


def test_settle(scripts: Scripts) -> None:
    """Settling charges what was used, frees the rest, and writes the row."""
    scripts.reserve("r1", (1, 50, 40, 2, 900), BUDGET, now=NOON)
    done = scripts.settle("r1", (1, 30, 20, 2, 500), now=NOON, provider="p2", cached=7, image=9)
    assert done == "settled"
    assert scripts.peek(BUDGET, now=NOON) == [50, 0, 100]
    found = scripts.contents()
    assert found.rows == {"2026-11-22|k1|m1|p2": [1, 30, 20, 7, 9, 2, 500]}
    assert (found.reservations, found.leases, found.tallies["team|*"].live) == ({}, {}, 0)


def test_settle_again(scripts: Scripts) -> None:
    """A settlement that comes twice charges once; one of nothing charges nothing."""
    scripts.reserve("r1", tokens(50), now=NOON)
    scripts.settle("r1", tokens(30), now=NOON)
    before = scripts.contents()
    assert scripts.settle("r1", tokens(30), now=NOON) == "absent"
    assert scripts.settle("never made", tokens(30), now=NOON) == "absent"
    assert scripts.contents() == before


def test_settle_nothing(scripts: Scripts) -> None:
    """A request that used nothing leaves neither a row nor a figure."""
    scripts.reserve("r1", tokens(50), now=NOON)
    assert scripts.settle("r1", NOTHING, now=NOON) == "settled"
    assert scripts.contents().rows == {}
    assert scripts.peek(BUDGET, now=NOON)[:2] == [0, 0]


def test_midnight(scripts: Scripts) -> None:
    """What was admitted before midnight is charged to its own day, hour and month."""
    limits = [Bound(100, "tokens", window) for window in ("hour", "day", "month", "total")]
    scripts.reserve("r1", tokens(60), *limits, now=MIDNIGHT - 1)
    after = scripts.reserve("r2", tokens(41), *limits[:3], now=MIDNIGHT)
    assert after == ["ok", MIDNIGHT, *(0, 0, 100) * 3]
    scripts.settle("r1", tokens(50), now=MIDNIGHT)
    scripts.settle("r2", tokens(41), now=MIDNIGHT)
    assert scripts.peek(*limits, now=MIDNIGHT) == [41, 0, 100] * 3 + [91, 0, 100]
    assert scripts.contents().rows == {
        "2026-11-30|k1|m1|p1": [1, 50, 0, 0, 0, 0, 0],
        "2026-12-01|k1|m1|p1": [1, 41, 0, 0, 0, 0, 0],
    }


def test_midnight_alone(scripts: Scripts) -> None:
    """A day that nobody has turned yet takes the charge of its own request."""
    scripts.reserve("r1", tokens(60), now=MIDNIGHT - 1)
    scripts.settle("r1", tokens(50), now=MIDNIGHT)
    assert scripts.peek(Bound(100, "tokens", "day"), now=MIDNIGHT)[0] == 0
    assert scripts.peek(BUDGET, now=MIDNIGHT)[0] == 50


def test_lease_runs_out(scripts: Scripts) -> None:
    """A lease that has run out is charged its last count, and the rest is free again."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    scripts.renew(("r1", (1, 7, 3, 0, 0)), now=NOON, lease=LEASE)
    assert scripts.reserve("r2", tokens(90), BUDGET, now=END - 1)[0] == "refused"
    assert scripts.reserve("r3", tokens(90), BUDGET, now=END) == ["ok", END, 10, 0, 100]
    found = scripts.contents()
    assert (found.leases, found.expired) == ({"r3": END + LEASE}, {"r1": END})
    assert found.rows == {"2026-11-22|k1|m1|p1": [1, 7, 3, 0, 0, 0, 0]}


def test_lease_never_renewed(scripts: Scripts) -> None:
    """A worker that died before its first renewal leaves a request and its input."""
    scripts.reserve("r1", (1, 80, 40, 2, 900), now=NOON, usd_in=500)
    assert scripts.sweep(now=END) == 1
    assert scripts.contents().rows == {"2026-11-22|k1|m1|p1": [1, 80, 0, 0, 0, 2, 500]}


def test_settle_before_sweep(scripts: Scripts) -> None:
    """A lease that has run out, and that nobody swept, settles as a live one."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    assert scripts.settle("r1", tokens(60), now=END + DAY) == "settled"
    assert scripts.peek(BUDGET, now=END + DAY) == [60, 0, 100]


def test_settle_late(scripts: Scripts) -> None:
    """A settlement after the sweep charges the difference, once, to the provider that served."""
    bucket = Bound(600, "tokens", "minute")
    scripts.reserve("r1", tokens(80), BUDGET, bucket, now=NOON)
    scripts.renew(("r1", tokens(20)), now=NOON)
    scripts.sweep(now=END)
    assert scripts.settle("r1", tokens(70), now=END, provider="p2", cached=5) == "late"
    assert scripts.settle("r1", tokens(70), now=END, provider="p2", cached=5) == "absent"
    assert scripts.peek(BUDGET, bucket, now=END) == [70, 0, 100, 50, 0, 600]
    assert scripts.contents().rows == {"2026-11-22|k1|m1|p2": [1, 70, 0, 5, 0, 0, 0]}


def test_settle_late_less(scripts: Scripts) -> None:
    """A late settlement of less than was charged gives the difference back."""
    scripts.reserve("r1", tokens(80), BUDGET, now=NOON)
    scripts.renew(("r1", tokens(20)), now=NOON)
    scripts.sweep(now=END)
    assert scripts.settle("r1", NOTHING, now=END) == "late"
    assert scripts.peek(BUDGET, now=END) == [0, 0, 100]
    assert scripts.contents().rows == {}


def test_expired_kept(scripts: Scripts) -> None:
    """An expired reservation is known for seven days, and then forgotten."""
    for id in ("r1", "r2"):
        scripts.reserve(id, tokens(80), now=NOON)
    scripts.sweep(now=END)
    scripts.sweep(now=END + WEEK - 1)
    assert scripts.settle("r1", tokens(70), now=END + WEEK - 1) == "late"
    scripts.sweep(now=END + WEEK)
    assert scripts.settle("r2", tokens(70), now=END + WEEK) == "absent"
    found = scripts.contents()
    assert (found.reservations, found.expired) == ({}, {})
    assert found.rows == {"2026-11-22|k1|m1|p1": [2, 150, 0, 0, 0, 0, 0]}


def test_retry_after_lease(scripts: Scripts) -> None:
    """The same id after its lease has run out is not made again."""
    scripts.reserve("r1", tokens(80), now=NOON)
    assert scripts.reserve("r1", tokens(80), now=END) == ["gone"]
    assert scripts.contents().leases == {}


def test_given_back_before_it_came(scripts: Scripts) -> None:
    """What is given back before its reserve arrives can no longer be reserved."""
    assert scripts.settle("r1", NOTHING, now=NOON, void=True) == "absent"
    assert scripts.reserve("r1", tokens(80), now=NOON) == ["gone"]
    assert scripts.settle("r1", NOTHING, now=NOON, void=True) == "absent"
    assert scripts.renew(("r1", tokens(1)), now=NOON) == ["gone"]
    assert scripts.peek(BUDGET, now=NOON) == [0, 0, 100]
    scripts.sweep(now=NOON + 10 * MINUTE)
    assert scripts.contents().reservations == {}


def test_sweep_bounded(scripts: Scripts) -> None:
    """A call frees at most twenty leases of others, the longest dead first; sweep as told, and a
    look all that a killed worker is likely to have held.
    """
    for n in range(50):
        scripts.reserve(f"r{n:02}", tokens(1), BUDGET, now=NOON + n)
    late = NOON + MINUTE
    assert scripts.reserve("new", tokens(1), BUDGET, now=late) == ["ok", late, 20, 30, 100]
    assert min(scripts.contents().leases) == "new"
    assert sorted(scripts.contents().leases)[1:] == [f"r{n:02}" for n in range(20, 50)]
    assert scripts.sweep(now=late, most=5) == 5
    scripts.peek(now=late)
    assert scripts.sweep(now=late, most=1) == 0


def test_sweep_by_use(scripts: Scripts) -> None:
    """Settling, renewing and looking at one's usage all free what has run out."""
    calls: tuple[Callable[[int], object], ...] = (
        lambda now: scripts.settle("other", NOTHING, now=now),
        lambda now: scripts.renew(now=now),
        lambda now: scripts.peek(now=now),
    )
    for n, call in enumerate(calls):
        now = NOON + n * MINUTE
        scripts.reserve("other", NOTHING, now=now, lease=DAY)
        scripts.reserve(f"r{n}", tokens(1), now=now)
        call(now + LEASE)
        assert f"r{n}" not in scripts.contents().leases


def test_renew(scripts: Scripts) -> None:
    """A renewal gives a live reservation its whole lease anew, and notes what it has used."""
    scripts.reserve("r1", tokens(80), now=NOON)
    scripts.reserve("r2", tokens(80), now=NOON)
    assert scripts.renew(("r1", tokens(5)), now=END - 1) == ["live"]
    assert scripts.renew(("r2", tokens(5)), ("r1", tokens(6)), now=END) == ["gone", "live"]
    assert scripts.contents().leases == {"r1": END + LEASE}
    assert scripts.renew(("r3", tokens(5)), now=END) == ["gone"]


def test_renew_changed(scripts: Scripts) -> None:
    """A renewal by an old record is told to look again; the lease goes on."""
    scripts.reserve("r1", tokens(80), now=NOON)
    for records in ((b"old", KEY_RECORD), (TEAM_RECORD, b"old")):
        assert scripts.renew(("r1", NOTHING), now=NOON + 1, records=records) == ["changed"]
    assert scripts.contents().leases == {"r1": END + 1}


def test_renew_expired(scripts: Scripts) -> None:
    """A renewal tells when the key has come to its end; the lease goes on."""
    scripts.reserve("r1", tokens(80), now=NOON)
    assert scripts.renew(("r1", NOTHING), now=NOON + 1, end=NOON + 2) == ["live"]
    assert scripts.renew(("r1", NOTHING), now=NOON + 2, end=NOON + 2) == ["expired"]
    assert scripts.contents().leases == {"r1": END + 2}
