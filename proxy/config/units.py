"""Sizes, durations, counts and shares as people write them.

Each function reads text and raises ValueError with a message for the person who wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

# https://physics.nist.gov/cuu/Units/binary.html
_SIZES: Final = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_COUNTS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_MONTHS: Final = {"month": 1, "months": 1}
_SHARES: Final = {"%": Decimal("0.01")}

#: Digits are bounded so that no number written in a file is slow or endless.
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z%]*)", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes: `32MiB`, `20MB`, `512 KiB`, `1048576`."""
    return _whole(text, _SIZES, "a size; write it as 32MiB, 20MB or a number of bytes")


def parse_count(text: str) -> int:
    """A number: `50M`, `200k`, `8000`."""
    return _whole(text, _COUNTS, "a count; write it as 50M, 200k or 8000")


def parse_months(text: str) -> int:
    """Months: `25 months`."""
    return _whole(text, _MONTHS, "a number of months; write it as '25 months'")


def parse_duration(text: str) -> float:
    """Seconds: `250ms`, `5s`, `1.5m`, `2h`, `1d`."""
    return float(_quantity(text, _SECONDS, "a duration; write it as 250ms, 5s, 5m, 2h or 1d"))


def parse_pause(text: str) -> float:
    """Seconds as `parse_duration` has them, or `0` for none."""
    return 0.0 if text.strip() == "0" else parse_duration(text)


def parse_share(text: str) -> Decimal:
    """A share of one, from a percentage: 0.05 for `5%`."""
    return _quantity(text, _SHARES, "a percentage; write it as 5%")


def _whole(text: str, factors: Mapping[str, int], what: str) -> int:
    value = _quantity(text, factors, what)
    if value != int(value):
        raise ValueError(f"{text!r} is not {what}")
    return int(value)


def _quantity(text: str, factors: Mapping[str, Decimal | int], what: str) -> Decimal:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in factors:
        raise ValueError(f"{text!r} is not {what}")
    return Decimal(match[1]) * factors[match[2]]
