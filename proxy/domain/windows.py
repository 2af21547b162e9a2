"""When the windows of limits begin and end; all times in ms since 1970, UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 86_400_000
#: The stamp of the first month.
_JANUARY_1970: Final = 1970 * 12 + 1
_SPANS: Final = {"hour": HOUR, "day": DAY}


def stamp_of(window: str, now: int) -> int:
    """The number of a calendar window, as the ledger's scripts have it; `now` in ms."""
    if window == "hour":
        return now // HOUR
    if window == "day":
        return now // DAY
    if window == "month":
        date = datetime.fromtimestamp(now / 1000, UTC)
        return date.year * 12 + date.month
    return 0


def window_end(window: str, now: int) -> int | None:
    """When a calendar window turns, in ms; None for total."""
    if window == "hour":
        return (now // HOUR + 1) * HOUR
    if window == "day":
        return (now // DAY + 1) * DAY
    if window == "month":
        date = datetime.fromtimestamp(now / 1000, UTC)
        turn = datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)
        return int(turn.timestamp()) * 1000
    return None


def window_of(window: str, stamp: int) -> tuple[float, float]:
    """The window that a stamp names: its first ms, and the first after it; (0, 0) for none, as
    there is none before 1970.
    """
    if stamp < (_JANUARY_1970 if window == "month" else 0):
        return 0, 0
    if window == "month":
        year, month = divmod(stamp - 1, 12)
        begin = int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000
    elif window in _SPANS:
        begin = stamp * _SPANS[window]
    else:
        return (0, math.inf) if window == "total" else (0, 0)
    return begin, window_end(window, begin) or begin


def whole_at(window: str, used: int, amount: int, now: int) -> int | None:
    """When a limit of which so much is used is whole again; None: never."""
    if window == "minute":  # a bucket, which leaks
        return now + (-(-used * MINUTE // amount) if amount else 0)
    return window_end(window, now)
