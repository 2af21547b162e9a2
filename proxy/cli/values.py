"""What options take: limits, dates, labels. Each reader raises ValueError with a message."""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

from proxy.domain.limits import ANY_MODEL, Limit, LimitSyntax, parse_limit

T = TypeVar("T")
Slot = tuple[str, str, str]

GROUPS: Final = ("day", "team", "key", "model", "provider")
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-\d{2}", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,62})", re.ASCII)
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=\d{3})", re.ASCII)


def option(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader as argparse takes it, with its own message."""

    def read_option(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from error

    return read_option


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
        raise ValueError(f"{name!r} cannot be a label's name: use letters, digits and . _ / -")
    if not value.isprintable() or len(value) > 256:
        raise ValueError(f"the label {name!r} has a value that is not one line of 256 characters")
    return name, value


def duration(text: str) -> int:
    """Seconds: `24h`, `90d`, `0`."""
    from proxy.config.units import parse_duration

    return 0 if text == "0" else int(parse_duration(text))


def expiry(text: str) -> int | None:
    """`90d` from now, the beginning (UTC) of `2027-01-31`, or `never`; seconds since 1970."""
    if text == "never":
        return None
    now = int(time.time())
    if _DATE.fullmatch(text):
        ends = int(_midnight(_day(text)).timestamp())
    else:
        ends = now + _span(text, "2027-01-31, 90d or never")
    if ends <= now:
        raise ValueError(f"{text} is not in the future")
    if ends > _LAST.timestamp():
        raise ValueError(f"{text} is too far away; write never")
    return ends


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
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


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


def _span(text: str, forms: str) -> int:
    try:
        return duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a date nor a span; write it as {forms}") from None


def _midnight(of: date) -> datetime:
    return datetime(of.year, of.month, of.day, tzinfo=UTC)
