"""The server's clock goes wrong and comes right again: no window has more room than it had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.scripts import (
    HOUR,
    NOTHING,
    Bound,
    Scripts,
    at,
    connect,
    tokens,
    usd,
)

NOON = at("2026-11-22T12:00:00")
MIDNIGHT = at("2026-12-01T00:00:00")
#: Two hours later each of these is over.
WINDOWS = {
    "hour": NOON,
    "day": at("2026-11-22T23:00:00"),
    "month": MIDNIGHT - HOUR,
}


@pytest.fixture
def scripts(store_url: str) -> Iterator[Scripts]:
    with connect(store_url) as client:
        yield Scripts(client)


def test_clock_back(scripts: Scripts) -> None:
    """A clock that goes back by seconds over midnight does not open the old day again."""
    day = Bound(10, "usd", "day")
    scripts.reserve("r1", usd(10), day, now=MIDNIGHT + 2)
    assert scripts.reserve("r2", usd(1), day, now=MIDNIGHT - 5000) == [
        "refused",
        MIDNIGHT + 2,
        0,
        10,
        10,
    ]
    scripts.settle("r1", usd(9), now=MIDNIGHT - 5000)
    assert scripts.peek(day, now=MIDNIGHT + 3) == [9, 0, 10]


def test_clock_back_far(scripts: Scripts) -> None:
    """A clock that goes back by an hour or more is believed: it was wrong before."""
    scripts.reserve("r1", usd(10), now=NOON)
    assert scripts.reserve("r2", usd(1), now=NOON - HOUR)[1] == NOON - HOUR


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("swept", [False, True])
def test_ahead_and_back(scripts: Scripts, window: str, swept: bool) -> None:
    """What was reserved before the clock was ahead, and ends when it is right again, frees nothing
    that others take.
    """
    budget, now = Bound(100, "tokens", window), WINDOWS[window]
    ahead = Scripts(scripts.client, watched=False)
    assert scripts.reserve("r1", tokens(100), budget, now=now, lease=1)[0] == "ok"
    assert ahead.reserve("r2", tokens(1), budget, now=now + 2 * HOUR)[0] == "ok"
    if swept:
        assert scripts.sweep(now=now + 1) == 1
    else:
        assert scripts.settle("r1", NOTHING, now=now + 1) == "settled"
    assert scripts.reserve("r3", tokens(100), budget, now=now + 1) == ["ok", now + 1, 0, 0, 100]
    refused = scripts.reserve("r4", tokens(1), budget, now=now + 1)
    assert refused == ["refused", now + 1, 0, 100, 100]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("swept", [False, True])
def test_begun_anew(scripts: Scripts, window: str, swept: bool) -> None:
    """A window that begins anew, as the clock goes back into it, holds nothing of what was reserved
    in it before, and the end of that frees nothing that others take.
    """
    budget, now = Bound(100, "tokens", window), WINDOWS[window]
    ahead = Scripts(scripts.client, watched=False)
    assert scripts.reserve("r1", tokens(100), budget, now=now, lease=2)[0] == "ok"
    assert ahead.reserve("r2", tokens(1), budget, now=now + 2 * HOUR)[0] == "ok"
    assert scripts.reserve("r3", tokens(100), budget, now=now + 1) == ["ok", now + 1, 0, 0, 100]
    if swept:
        assert scripts.sweep(now=now + 2) == 1
        assert scripts.settle("r1", NOTHING, now=now + 2) == "late"
    else:
        assert scripts.settle("r1", NOTHING, now=now + 2) == "settled"
    refused = scripts.reserve("r4", tokens(1), budget, now=now + 2)
    assert refused == ["refused", now + 2, 0, 100, 100]
