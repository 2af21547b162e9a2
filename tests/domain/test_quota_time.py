"""Windows and spans: turns of the month, leap years, and the ledger's own reckoning."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.identity import Bound
from proxy.domain.limits import parse_limit
from proxy.domain.quota import State, resets_at
from proxy.domain.ratelimits import duration
from proxy.domain.windows import stamp_of, window_end, window_of
from proxy.store.client import script_source


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


@given(TIMES, st.sampled_from(("hour", "day", "month")))
def test_a_stamp_names_its_window(now: int, window: str) -> None:
    """From the stamp alone follow the first millisecond with it, and the first with the next."""
    begin, end = window_of(window, stamp_of(window, now))
    assert begin <= now < end == window_end(window, now)
    assert stamp_of(window, int(begin)) == stamp_of(window, now)
    assert not begin or stamp_of(window, int(begin) - 1) == stamp_of(window, now) - 1


@pytest.mark.parametrize(
    ("window", "stamp", "span"),
    [
        ("total", 0, (0, math.inf)),
        ("minute", 0, (0, 0)),
        *((window, -1, (0, 0)) for window in ("minute", "hour", "day", "month", "total")),
        *(("month", stamp, (0, 0)) for stamp in (0, 1, 12, 13, 1970 * 12)),
        ("month", 1970 * 12 + 1, (0, ms(1970, 2, 1))),
    ],
)
def test_what_has_no_end(window: str, stamp: int, span: tuple[float, float]) -> None:
    """Total lasts for ever, and of what has no window, or a stamp of none, there is none."""
    assert window_of(window, stamp) == span


@pytest.fixture
def lua(store_url: str) -> Any:
    """The ledger's own view of two times in ms, from the source of its scripts: in which windows
    they are together, and the date of the first.
    """
    source = f"""{script_source("calendar")}
    local one, other, found = math.floor(ARGV[1] / 3600000), math.floor(ARGV[2] / 3600000), {{}}
    for window = 1, 4 do found[window] = together(window, one, other) and 1 or 0 end
    found[5] = day_text(math.floor(ARGV[1] / 86400000))
    return found"""
    with redis.Redis.from_url(store_url) as client:
        script = client.register_script(source)

        def view(one: int, other: int) -> list[Any]:
            found: Any = script(args=[one, other])
            return list(found)

        yield view


def test_windows_are_the_ledgers(lua: Any) -> None:
    """Two times have one stamp where the ledger's scripts have them in one window."""
    times = [0, 1, ms(2000, 2, 29), ms(2024, 2, 29, 23, 59, 59), ms(2026, 11, 22, 18, 30)]
    for year in range(1971, 2110):
        for month in range(1, 13):
            times += [ms(year, month, 1) - 1, ms(year, month, 1), ms(year, month, 9, 1)]
            times += [ms(year, month, 9, 2), ms(year, month, 10)]
    for one, other in zip(times, [*times[1:], times[-1] + 1], strict=True):
        windows = ("hour", "day", "month", "total")
        mine = [stamp_of(window, one) == stamp_of(window, other) for window in windows]
        date = f"{datetime.fromtimestamp(one // 1000, UTC):%Y-%m-%d}".encode()
        assert [*mine, date] == lua(one, other), (one, other)


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
