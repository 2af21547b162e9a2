"""The rules of reserve: what binds, in which unit and window, and how a bucket leaks."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from proxy.domain.windows import stamp_of
from tests.store.scripts import (
    DAY,
    HOUR,
    KEY_RECORD,
    MINUTE,
    NOTHING,
    SECOND,
    TEAM_RECORD,
    Bound,
    Five,
    Scripts,
    at,
    connect,
    tokens,
    usd,
)

NOON = at("2026-11-22T12:00:00")
MIDNIGHT = at("2026-12-01T00:00:00")  # the hour, the day and the month turn
BUCKET = Bound(60, "tokens", "minute")


@pytest.fixture
def scripts(store_url: str) -> Iterator[Scripts]:
    with connect(store_url) as client:
        yield Scripts(client)


def test_all_or_nothing(scripts: Scripts) -> None:
    """A request that one of several limits has no room for takes nothing from any."""
    limits = (Bound(5, "requests", "day"), BUCKET, Bound(30), Bound(9, scope="key:k1"))
    assert scripts.reserve("r1", tokens(10), *limits, now=NOON)[0] == "refused"
    assert scripts.peek(*limits, now=NOON) == [0, 0, 5, 0, 0, 60, 0, 0, 30, 0, 0, 9]
    found = scripts.contents()
    assert (found.reservations, found.leases, found.rows, found.buckets) == ({}, {}, {}, {})


@pytest.mark.parametrize(
    ("unit", "asked"),
    [
        ("requests", 1),
        ("tokens", 5),
        ("input tokens", 2),
        ("output tokens", 3),
        ("images", 4),
        ("usd", 500),
        ("concurrent", 1),
    ],
)
def test_unit(scripts: Scripts, unit: str, asked: int) -> None:
    """Each unit counts its own part of a request, to the last one that fits."""
    five: Five = (1, 2, 3, 4, 500)
    limit = Bound(2 * asked, unit)
    assert [scripts.reserve(f"r{n}", five, limit, now=NOON)[0] for n in range(3)] == [
        "ok",
        "ok",
        "refused",
    ]
    assert scripts.peek(limit, now=NOON) == [0, 2 * asked, 2 * asked]


@pytest.mark.parametrize(
    ("window", "turn"),
    [("hour", HOUR), ("day", 12 * HOUR), ("month", MIDNIGHT + 30 * DAY - NOON), ("total", None)],
)
def test_window(scripts: Scripts, window: str, turn: int | None) -> None:
    """A calendar window is full until the millisecond in which it turns; total never turns."""
    limit = Bound(10, "tokens", window)
    begin = NOON if window != "month" else MIDNIGHT
    turn = turn if window != "month" else 31 * DAY
    scripts.reserve("r1", tokens(10), limit, now=begin)
    scripts.settle("r1", tokens(10), now=begin)
    last = begin + (turn or 4000 * DAY) - 1
    assert scripts.reserve("r2", tokens(1), limit, now=last) == ["refused", last, 10, 0, 10]
    after = scripts.reserve("r3", tokens(1), limit, now=last + 1)
    assert after[0] == ("refused" if turn is None else "ok")


def test_used_and_reserved(scripts: Scripts) -> None:
    """A limit counts what was used and what is reserved, each told by itself."""
    limit = Bound(10, "tokens", "day")
    scripts.reserve("r1", tokens(4), limit, now=NOON)
    scripts.settle("r1", tokens(3), now=NOON)
    scripts.reserve("r2", tokens(5), limit, now=NOON)
    assert scripts.reserve("r3", tokens(3), limit, now=NOON) == ["refused", NOON, 3, 5, 10]
    assert scripts.reserve("r4", tokens(2), limit, now=NOON)[0] == "ok"


def test_scopes(scripts: Scripts) -> None:
    """A key's limit counts that key, a model's that model, and a team's limit all of them."""
    scripts.reserve("r1", tokens(1), now=NOON, key="k1", model="m1")
    scripts.reserve("r2", tokens(2), now=NOON, key="k1", model="m2")
    scripts.reserve("r3", tokens(4), now=NOON, key="k2", model="m1")
    cases = {("team", "*"): 7, ("team", "m1"): 5, ("key:k1", "*"): 3, ("key:k2", "m1"): 4}
    limits = [Bound(9, scope=scope, model=model) for scope, model in cases]
    assert scripts.peek(*limits, now=NOON)[1::3] == list(cases.values())


def test_new_limit(scripts: Scripts) -> None:
    """A limit that is set in mid-month knows of the month."""
    scripts.reserve("r1", usd(7), now=NOON)
    scripts.settle("r1", usd(7), now=NOON)
    assert scripts.peek(Bound(9, "usd", "month"), now=NOON + DAY) == [7, 0, 9]


def test_bucket_leaks(scripts: Scripts) -> None:
    """A bucket of 60 a minute has room for one more each second, and not a millisecond sooner."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON)
    scripts.settle("r1", tokens(60), now=NOON)
    early = scripts.reserve("r2", tokens(1), BUCKET, now=NOON + SECOND - 1)
    assert early == ["refused", NOON + SECOND - 1, 60, 0, 60]
    assert scripts.reserve("r3", tokens(1), BUCKET, now=NOON + SECOND)[2] == 59
    scripts.settle("r3", tokens(1), now=NOON + SECOND)
    assert scripts.reserve("r4", tokens(60), BUCKET, now=NOON + SECOND + MINUTE)[0] == "ok"


def test_a_bucket_is_filled_at_admission(scripts: Scripts) -> None:
    """A reservation counts when it is admitted and leaks from then on, however long it takes."""
    limit = Bound(3, "requests", "minute")
    for n in range(3):
        assert scripts.reserve(f"r{n}", tokens(1), limit, now=NOON)[0] == "ok"
    assert scripts.reserve("early", tokens(1), limit, now=NOON)[0] == "refused"
    for n in range(3):
        now = NOON + (n + 1) * 20 * SECOND
        assert scripts.reserve(f"next{n}", tokens(1), limit, now=now)[0] == "ok"
        assert scripts.reserve(f"more{n}", tokens(1), limit, now=now)[0] == "refused"


def test_a_late_refund_brings_no_burst(scripts: Scripts) -> None:
    """What a long request did not use comes back only as far as it cannot have leaked."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON, lease=DAY)
    scripts.reserve("r2", tokens(45), BUCKET, now=NOON + 45 * SECOND)
    scripts.settle("r1", tokens(10), now=NOON + 45 * SECOND)
    assert scripts.peek(BUCKET, now=NOON + 45 * SECOND)[0] == 45
    scripts.settle("r2", tokens(10), now=NOON + 45 * SECOND)
    assert scripts.peek(BUCKET, now=NOON + 45 * SECOND)[0] == 10
    scripts.reserve("r3", tokens(50), BUCKET, now=NOON + 45 * SECOND)
    scripts.settle("r3", NOTHING, now=NOON + 50 * SECOND)
    assert scripts.peek(BUCKET, now=NOON + 50 * SECOND)[0] == 10


def test_observing_leaves_no_debt(scripts: Scripts) -> None:
    """What is admitted only because nothing is enforced fills a bucket no more than full."""
    for n in range(10):
        scripts.reserve(f"r{n}", tokens(50), BUCKET, now=NOON, force=True)
    assert scripts.reserve("last", tokens(1), BUCKET, now=NOON)[2:] == [60, 0, 60]
    for n in range(10):
        scripts.settle(f"r{n}", NOTHING, now=NOON)
    assert scripts.contents().buckets == {"team|tokens|minute|*": (NOON, 0, 60)}


def test_a_clock_far_ahead_leaves_no_debt(scripts: Scripts) -> None:
    """A bucket filled by a clock that was hours ahead is empty for one that is right."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON + 2 * HOUR)
    assert scripts.reserve("r2", tokens(60), BUCKET, now=NOON)[0] == "ok"


def test_bucket_figures(scripts: Scripts) -> None:
    """The figures told of a bucket always explain its verdict, at whatever rate it leaks."""
    limit = Bound(7, "tokens", "minute")
    scripts.reserve("r0", tokens(7), limit, now=NOON)
    verdicts = set()
    for n, wait in enumerate(range(0, MINUTE, 997)):
        now = NOON + wait
        verdict, _, used, reserved, amount = scripts.reserve(f"s{n}", tokens(1), limit, now=now)
        assert (verdict == "ok") == (used + reserved + 1 <= amount)
        verdicts.add(verdict)
    assert verdicts == {"ok", "refused"}


def test_bucket_dust(scripts: Scripts) -> None:
    """What floating point leaves in the last digits of a bucket refuses nobody."""
    field = "team|usd|minute|*"
    scripts.client.hset(scripts.names[1], field, struct.pack("<3d", NOON, 3.0000000001, 10))
    limit = Bound(10, "usd", "minute")
    assert scripts.reserve("r1", usd(7), limit, now=NOON) == ["ok", NOON, 3, 0, 10]


def test_bucket_refund(scripts: Scripts) -> None:
    """Settling gives back what was reserved and not used, and never more than there is."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON)
    scripts.settle("r1", tokens(20), now=NOON)
    assert scripts.peek(BUCKET, now=NOON)[0] == 20
    scripts.reserve("r2", tokens(40), BUCKET, now=NOON)
    scripts.settle("r2", NOTHING, now=NOON + MINUTE)
    assert scripts.contents().buckets == {"team|tokens|minute|*": (NOON + MINUTE, 0, 60)}


def test_bucket_debt(scripts: Scripts) -> None:
    """What was used beyond the reservation is owed, and blocks until it has leaked away."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON)
    scripts.settle("r1", tokens(120), now=NOON)
    assert scripts.peek(BUCKET, now=NOON)[0] == 120
    assert scripts.reserve("r2", tokens(1), BUCKET, now=NOON + MINUTE)[0] == "refused"
    assert scripts.reserve("r3", tokens(1), BUCKET, now=NOON + MINUTE + SECOND)[0] == "ok"


def test_calendar_debt(scripts: Scripts) -> None:
    """What was used beyond a calendar limit is recorded as it is, and blocks what follows."""
    limit = Bound(10, "tokens", "day")
    scripts.reserve("r1", tokens(10), limit, now=NOON)
    scripts.settle("r1", tokens(25), now=NOON)
    assert scripts.reserve("r2", tokens(1), limit, now=NOON) == ["refused", NOON, 25, 0, 10]


def test_bucket_changed(scripts: Scripts) -> None:
    """A changed amount holds at once, and a bucket that shrinks is no more than full."""
    scripts.reserve("r1", tokens(60), BUCKET, now=NOON)
    scripts.settle("r1", tokens(60), now=NOON)
    larger = Bound(120, "tokens", "minute")
    assert scripts.peek(larger, now=NOON + 10 * SECOND) == [40, 0, 120]
    assert scripts.reserve("r2", tokens(80), larger, now=NOON + 10 * SECOND)[0] == "ok"
    scripts.settle("r2", tokens(80), now=NOON + 20 * SECOND)
    assert scripts.contents().buckets["team|tokens|minute|*"][1:] == (100, 120)
    smaller = Bound(6, "tokens", "minute")
    assert scripts.reserve("r3", tokens(1), smaller, now=NOON + 30 * SECOND)[2:] == [5, 0, 6]


def test_calendar_changed(scripts: Scripts) -> None:
    """A changed calendar limit holds at once, for what was used before as well."""
    scripts.reserve("r1", tokens(10), Bound(10), now=NOON)
    assert scripts.reserve("r2", tokens(1), Bound(11), now=NOON)[0] == "ok"
    assert scripts.reserve("r3", tokens(1), Bound(5), now=NOON) == ["refused", NOON, 0, 11, 5]


def test_concurrent(scripts: Scripts) -> None:
    """Concurrent counts live reservations, in whichever window they were admitted."""
    limit = Bound(1, "concurrent")
    scripts.reserve("r1", NOTHING, limit, now=MIDNIGHT - 1)
    assert scripts.reserve("r2", NOTHING, limit, now=MIDNIGHT) == ["refused", MIDNIGHT, 0, 1, 1]
    scripts.settle("r1", NOTHING, now=MIDNIGHT)
    assert scripts.reserve("r3", NOTHING, limit, now=MIDNIGHT)[0] == "ok"


@pytest.mark.parametrize("window", ["hour", "day", "month", "total"])
def test_grant(scripts: Scripts, window: str) -> None:
    """A grant adds to its own window, and to no other."""
    limit = Bound(10, "tokens", window, grant=5, stamp=stamp_of(window, MIDNIGHT - 1))
    assert scripts.peek(limit, now=MIDNIGHT - 1)[2] == 15
    assert scripts.peek(limit, now=MIDNIGHT)[2] == (15 if window == "total" else 10)


def test_force(scripts: Scripts) -> None:
    """Where the plan does not enforce, a request without room is admitted, counted and told."""
    assert scripts.reserve("r1", tokens(9), Bound(10), now=NOON, force=True)[0] == "ok"
    assert scripts.reserve("r2", tokens(9), Bound(10), now=NOON, force=True) == [
        "observed",
        NOON,
        0,
        9,
        10,
    ]
    assert scripts.peek(Bound(10), now=NOON) == [0, 18, 10]
    assert scripts.reserve("r2", tokens(9), Bound(10), now=NOON, force=True)[0] == "observed"


@pytest.mark.parametrize("known", [(b"old", KEY_RECORD), (TEAM_RECORD, b"old")])
def test_stale(scripts: Scripts, known: tuple[bytes, bytes]) -> None:
    """Who knows an old record is told the new ones, and nothing is reserved."""
    assert scripts.reserve("r1", tokens(1), now=NOON, records=known) == [
        "stale",
        TEAM_RECORD,
        KEY_RECORD,
    ]
    assert scripts.contents().reservations == {}


def test_stale_removed(scripts: Scripts) -> None:
    """A record that is no longer there is told as an empty one."""
    scripts.client.hdel(scripts.names[0], "key:k1")
    assert scripts.reserve("r1", tokens(1), now=NOON) == ["stale", TEAM_RECORD, b""]


def test_key_ends(scripts: Scripts) -> None:
    """A key is good until the millisecond of its end, by the time of the store."""
    assert scripts.reserve("r1", tokens(1), now=NOON, end=NOON + 1)[0] == "ok"
    assert scripts.reserve("r2", tokens(1), now=NOON, end=NOON) == ["expired"]
    assert "r2" not in scripts.contents().reservations


def test_reserved_again(scripts: Scripts) -> None:
    """The same id again is the same reservation: admitted, and counted once."""
    limit = Bound(10)
    assert scripts.reserve("r1", tokens(10), limit, now=NOON)[0] == "ok"
    assert scripts.reserve("r1", tokens(10), limit, now=NOON) == ["ok", NOON, 0, 10, 10]
    assert scripts.contents().tallies["team|*"].live == 1
