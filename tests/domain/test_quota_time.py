"""Windows and spans: turns of the month, leap years, and the ledger's own reckoning."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.identity import Bound
from proxy.domain.limits import parse_limit
from proxy.domain.quota import State, resets_at, stamp_of, window_end
from proxy.domain.ratelimits import duration


def ms(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "now", "end"),
    [
        ("hour", ms(2026, 1, 1, 10), ms(2026, 1, 1, 11)),
        ("hour", ms(2026, 1, 1, 11) - 1, ms(2026, 1, 1, 11)),
        ("day", ms(2026, 1, 1), ms(2026, 1, 2)),
        ("day", ms(2024, 2, 28, 23), ms(2024, 2, 29)),
        ("day", ms(2026, 12, 31, 23, 59, 59), ms(2027, 1, 1)),
        ("month", ms(2026, 11, 22), ms(2026, 12, 1)),
        ("month", ms(2026, 12, 1), ms(2027, 1, 1)),
        ("month", ms(2027, 1, 1) - 1, ms(2027, 1, 1)),
        ("month", ms(2024, 2, 29, 23), ms(2024, 3, 1)),
        ("month", ms(2026, 2, 28), ms(2026, 3, 1)),
        ("month", ms(2100, 2, 28), ms(2100, 3, 1)),
        ("total", ms(2026, 1, 1), None),
    ],
)
def test_when_a_window_turns(window: str, now: int, end: int | None) -> None:
    """A calendar window ends where the next begins, in UTC."""
    assert window_end(window, now) == end


TIMES = st.integers(0, ms(2200, 1, 1))


@given(TIMES, st.sampled_from(("hour", "day", "month")))
def test_a_window_has_one_stamp(now: int, window: str) -> None:
    """The stamp holds to the window's last millisecond, and is one more from the next on."""
    end = window_end(window, now)
    assert end is not None
    assert now < end
    assert stamp_of(window, end - 1) == stamp_of(window, now)
    assert stamp_of(window, end) == stamp_of(window, now) + 1


def test_what_has_no_window_has_stamp_zero() -> None:
    """Total and minute have no calendar window."""
    assert stamp_of("total", ms(2026, 1, 1)) == stamp_of("minute", ms(2026, 1, 1)) == 0


@pytest.fixture
def lua(store_url: str) -> Any:
    """The ledger's own stamps of a time in ms, from the source of its scripts."""
    common = (resources.files("proxy.store") / "lua" / "calendar.lua").read_text()
    with redis.Redis.from_url(store_url) as client:
        script = client.register_script(f"{common}\nreturn stamps_of(tonumber(ARGV[1]))")

        def stamps(now: int) -> list[int]:
            found: Any = script(keys=["a", "b", "c", "d", "e", "f"], args=[now])
            return list(found)

        yield stamps


def test_stamps_are_the_ledgers(lua: Any) -> None:
    """A grant's stamp is the number by which the ledger's scripts know the window."""
    times = [0, 1, ms(2000, 2, 29), ms(2024, 2, 29, 23, 59, 59), ms(2026, 11, 22, 18, 30)]
    for year in range(1971, 2110):
        for month in range(1, 13):
            times += [ms(year, month, 1) - 1, ms(year, month, 1)]
    for now in times:
        mine = [stamp_of(window, now) for window in ("hour", "day", "month", "total")]
        assert mine == lua(now), now


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (0, "0ms"),
        (20, "20ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (59_001, "1m0s"),
        (360_000, "6m0s"),
        (3_599_999, "1h0m0s"),
        (10_802_000, "3h0m2s"),
        (30 * 86_400_000, "720h0m0s"),
    ],
)
def test_spans_as_openai_has_them(span: int, text: str) -> None:
    """Under a second in ms, else in whole seconds, rounded up."""
    assert duration(span) == text


@pytest.mark.parametrize(
    ("limit", "used", "after"),
    [
        ("60 requests/minute", 0, 0),
        ("60 requests/minute", 30, 30_000),
        ("7 requests/minute", 1, 8572),
        ("0 requests/minute", 5, 0),
        ("60 requests/hour", 30, 1_800_000),
    ],
)
def test_when_a_limit_is_whole_again(limit: str, used: int, after: int) -> None:
    """A bucket is whole when it has leaked out, a window when it turns."""
    now = ms(2026, 11, 22, 18, 30)
    parsed = parse_limit(limit)
    state = State(Bound(parsed, "team", "team 'a'"), used, 0, parsed.amount)
    assert resets_at(state, now) == now + after


def test_a_total_is_never_whole_again() -> None:
    """A limit for ever does not reset."""
    parsed = parse_limit("5 tokens")
    assert resets_at(State(Bound(parsed, "team", "team 'a'"), 5, 0, 5), 0) is None
