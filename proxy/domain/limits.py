"""The grammar of limits: `<amount> <unit>[/<window>]`.

`60 requests/minute`, `1.5M tokens/day`, `50 usd/month`, `20 concurrent`, `1M tokens`
(no window: for ever). A minute is a token bucket, refilled continuously; hour, day and
month are calendar windows in UTC; total never resets. Money is counted in nano-usd.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

NANO: Final = 1_000_000_000

#: Lua counts in doubles, which are exact below 2**53.
LARGEST: Final = 2**53 - 1

UNITS: Final = (
    "requests",
    "tokens",
    "input tokens",
    "output tokens",
    "images",
    "usd",
    "concurrent",
)
WINDOWS: Final = ("minute", "hour", "day", "month", "total")
ANY_MODEL: Final = "*"

_SINGULAR = {
    "request": "requests",
    "token": "tokens",
    "input token": "input tokens",
    "output token": "output tokens",
    "image": "images",
}
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
_LIMIT = re.compile(
    r"\s*(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?)\s*(?P<factor>[A-Za-z]?)\s+"
    r"(?P<unit>[A-Za-z]+(?:\s+[A-Za-z]+)?)\s*(?:/\s*(?P<window>[A-Za-z]+))?\s*",
    re.ASCII,
)


class LimitSyntax(ValueError):
    """A limit that cannot be read; the message says why and what would do."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: `amount` in the unit's own count (nano-usd for usd)."""

    amount: int
    unit: str
    window: str
    model: str = ANY_MODEL

    @property
    def slot(self) -> tuple[str, str, str]:
        """What an override must share with a limit to replace it."""
        return self.unit, self.window, self.model

    def __str__(self) -> str:
        span = "" if self.window == "total" or self.unit == "concurrent" else f"/{self.window}"
        model = "" if self.model == ANY_MODEL else f" on {self.model}"
        return f"{format_amount(self.amount, self.unit)} {self.unit}{span}{model}"


def parse_limit(text: str, model: str = ANY_MODEL) -> Limit:
    """Read one limit.

    Raises LimitSyntax with a message for the person who wrote it.
    """
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise LimitSyntax(
            f"{text!r} is not a limit; write it as '60 requests/minute', '1M tokens/day', "
            "'50 usd/month' or '20 concurrent'"
        )
    unit = _unit(match["unit"])
    window = _window(match["window"], unit)
    return Limit(_amount(match["number"], match["factor"], unit), unit, window, model)


def merge(base: tuple[Limit, ...], overrides: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Overrides replace limits of the same unit, window and model, else add to them."""
    slots = {limit.slot: limit for limit in (*base, *overrides)}
    return tuple(slots.values())


def format_amount(amount: int, unit: str) -> str:
    """The amount as a person writes it: 50 for 50 usd, 200,000 for tokens."""
    if unit == "usd":
        text = f"{Decimal(amount) / NANO:,.9f}".rstrip("0")
        whole, _, fraction = text.partition(".")
        return f"{whole}.{fraction.ljust(2, '0')}" if fraction else whole
    return f"{amount:,}"


def _unit(text: str) -> str:
    unit = " ".join(text.lower().split())
    unit = _SINGULAR.get(unit, unit)
    if unit not in UNITS:
        raise LimitSyntax(f"unknown unit {text!r}; {_suggest(unit, UNITS)}")
    return unit


def _window(text: str | None, unit: str) -> str:
    if unit == "concurrent":
        if text is not None:
            raise LimitSyntax("concurrent has no window: write '20 concurrent'")
        return "total"
    window = (text or "total").lower()
    if window not in WINDOWS:
        raise LimitSyntax(f"unknown window {text!r}; {_suggest(window, WINDOWS)}")
    return window


def _amount(number: str, factor: str, unit: str) -> int:
    if factor not in _FACTORS:
        raise LimitSyntax(f"unknown factor {factor!r}; amounts take k, M or G")
    value = Decimal(number.replace("_", "")) * _FACTORS[factor]
    if unit == "usd":
        value *= NANO
    if value != value.to_integral_value():
        what = "a billionth of a usd" if unit == "usd" else "one"
        raise LimitSyntax(f"{number}{factor} {unit} is not a whole number of steps of {what}")
    if value > LARGEST:
        raise LimitSyntax(
            f"{number}{factor} {unit} is too large; at most {format_amount(LARGEST, unit)}"
        )
    return int(value)


def _suggest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"
