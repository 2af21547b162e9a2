"""Limits, dates and labels as people write them, in options and in the fields of the admin API.

Each reader raises ValueError with a message for the person who wrote it.
"""

from __future__ import annotations

import calendar
import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import Final

from proxy.domain.limits import ANY_MODEL, Limit, LimitSyntax, parse_limit

Slot = tuple[str, str, str]

GROUPS: Final = ("day", "team", "key", "model", "provider")
#: What is written is no longer than this, in characters.
LONGEST: Final = 256
#: Why a target was switched off, in characters.
LONGEST_REASON: Final = 200
#: A team's record goes with each of its requests.
MOST_LABELS: Final = 64
#: The last time that can be written, in seconds since 1970.
LAST: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
#: In seconds.
YEAR: Final = 365 * 86_400
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-\d{2}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,62})", re.ASCII)
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3}(?!\d))", re.ASCII)


def limit(text: str) -> Limit:
    """`100k tokens/day`, or of one model: `100k tokens/day on gpt-4o`. Also as it is shown."""
    amount, on, model = text.partition(" on ")
    if on and not model.strip():
        raise LimitSyntax(f"{text!r} names no model after 'on'")
    return parse_limit(_THOUSANDS.sub("", amount), model.strip() or ANY_MODEL)


def slot(text: str) -> Slot:
    """`usd/month` or `tokens/day on gpt-4o`: a limit without its amount, or with any."""
    amount = "" if text.lstrip()[:1].isdigit() else "1 "
    try:
        return limit(amount + text).slot
    except LimitSyntax as error:
        raise LimitSyntax(f"{error}; name the limit as 'usd/month' or 'tokens/day'") from None


def label(text: str) -> tuple[str, str]:
    """`cost-center=42`."""
    name, mark, value = text.partition("=")
    if not mark:
        raise ValueError(f"{text!r} is not a label; write it as cost-center=42")
    return check_label(name, value)


def check_label(name: str, value: str) -> tuple[str, str]:
    """A label that can be shown and be a column's name."""
    if not _LABEL.fullmatch(name):
        raise ValueError(f"{name[:64]!r} cannot be a label's name: use letters, digits and . _ / -")
    if not value.isprintable() or len(value) > 256:
        raise ValueError(f"the label {name!r} has a value that is not one line of 256 characters")
    return name, value


def duration(text: str) -> int:
    """Seconds: `24h`, `90d`, `0`."""
    from proxy.config.units import parse_pause

    return int(parse_pause(text))


def overlap(text: str) -> int:
    """Seconds that a replaced secret goes on: `24h`, or `0`; a year at most."""
    seconds = duration(text)
    if seconds > YEAR:
        raise ValueError(f"{text} is longer than a year; write 24h, 7d or at most 365d")
    return seconds


def expiry(text: str) -> int | None:
    """As `until`, or `never`."""
    return None if text == "never" else until(text, "2027-01-31, 90d or never")


def until(text: str, forms: str = "2027-01-31 or 90d") -> int:
    """`90d` from now, the beginning (UTC) of `2027-01-31`, or `2027-01-31T08:00:00Z`; seconds
    since 1970.
    """
    now = int(time.time())
    ends = _moment(text)
    if ends is None:
        ends = now + _span(text, forms)
    if ends <= now:
        raise ValueError(f"{text} is not in the future")
    if ends > LAST:
        raise ValueError(f"{text} is too far away; write {forms}")
    return ends


def span_end(text: str) -> int:
    """`2h` from now, in seconds since 1970."""
    try:
        seconds = duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a span; write it as 2h, 90m or 7d") from None
    if not seconds:
        raise ValueError(f"{text} is no time at all")
    ends = int(time.time()) + seconds
    if ends > LAST:
        raise ValueError(f"{text} is too far away; write 2h, 90m or 7d")
    return ends


def reason(text: str) -> str:
    """One line that a table can show."""
    if not text.isprintable() or len(text) > LONGEST_REASON:
        raise ValueError(f"a reason is one line of at most {LONGEST_REASON} characters")
    return text


def since(text: str) -> int:
    """As `until`, but in the past: `7d` ago; nothing is older than 1970."""
    begins = _moment(text)
    if begins is None:
        begins = int(time.time()) - _span(text, "2026-11-01 or 7d")
    return max(0, begins)


def number(text: str) -> int:
    """A whole number from 1 to 100,000."""
    if not (text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= 100_000):
        raise ValueError(f"{text[:32]!r} is not a number from 1 to 100000")
    return int(text)


def day(text: str) -> date:
    """`2026-11-01`, or the day (UTC) that was `7d` ago."""
    if _DATE.fullmatch(text):
        return _day(text)
    now = datetime.now(UTC)
    span = _span(text, "2026-11-01 or 7d")
    if span > (now - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds():
        raise ValueError(f"{text} is too long ago")
    return (now - timedelta(seconds=span)).date()


def month(text: str) -> tuple[date, date]:
    """The first and the last day of `2026-11`."""
    if not _MONTH.fullmatch(text):
        raise ValueError(f"{text!r} is not a month; write it as 2026-11")
    first = _day(f"{text}-01")
    return first, month_end(first)


def month_end(first: date) -> date:
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])


def period(
    first: date | None, last: date | None, of: tuple[date, date] | None
) -> tuple[date | None, date]:
    """The first and last day of a report, both included, from what was asked for: days, a month,
    or nothing, which is the month so far.
    """
    today = datetime.now(UTC).date()
    if of:
        if first or last:
            raise ValueError("a month is a period already: leave out since and until")
        return of
    if first is None and last is None:
        return today.replace(day=1), month_end(today.replace(day=1))
    if first and first > (last or today):
        raise ValueError(f"since {first} is after until {last or today}")
    return first, last or today


def groups(text: str) -> tuple[str, ...]:
    """`day,team`: what usage is summed by."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in GROUPS:
            raise ValueError(f"cannot group by {name!r}; known: {', '.join(GROUPS)}")
    return tuple(dict.fromkeys(names))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is not in the calendar") from None


def _moment(text: str) -> int | None:
    """A day's first moment, or a time, in seconds since 1970; None for what is neither."""
    if _DATE.fullmatch(text):
        return int(_midnight(_day(text)).timestamp())
    if not _TIME.match(text):
        return None
    try:
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"{text} is not a time; write it as 2027-01-31T08:00:00Z") from None


def _span(text: str, forms: str) -> int:
    try:
        return duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a date nor a span; write it as {forms}") from None


def _midnight(of: date) -> datetime:
    return datetime(of.year, of.month, of.day, tzinfo=UTC)
