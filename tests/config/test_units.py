"""Sizes, durations, counts and shares, as people write them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from proxy.config.units import (
    parse_count,
    parse_duration,
    parse_months,
    parse_pause,
    parse_share,
    parse_size,
)

GOOD = [
    (parse_size, "32MiB", 33_554_432),
    (parse_size, "20MB", 20_000_000),
    (parse_size, "1.5 KiB", 1536),
    (parse_size, "1024", 1024),
    (parse_size, "7B", 7),
    (parse_count, "50M", 50_000_000),
    (parse_count, "1.5k", 1500),
    (parse_count, "0", 0),
    (parse_duration, "5s", 5.0),
    (parse_duration, "250ms", 0.25),
    (parse_duration, "5m", 300.0),
    (parse_duration, "2h", 7200.0),
    (parse_duration, "1d", 86400.0),
    (parse_pause, "15s", 15.0),
    (parse_pause, "0", 0.0),
    (parse_months, "25 months", 25),
    (parse_months, "1 month", 1),
    (parse_share, "5%", Decimal("0.05")),
    (parse_share, "0.1 %", Decimal("0.001")),
]
BAD: list[tuple[Callable[[str], object], str]] = [
    (parse_size, text) for text in ("", "MiB", "32mib", "-1", "1.5", "1e3", "0.0001KiB", "9" * 5000)
]
BAD += [(parse_count, text) for text in ("50m", "1_000", "٣")]
BAD += [(parse_duration, text) for text in ("5", "5 min", "1h30m", "inf", "-5s")]
BAD += [(parse_pause, text) for text in ("5", "off", "-0", "00")]
BAD += [(parse_months, text) for text in ("25", "2 years", "1.5 months")]
BAD += [(parse_share, text) for text in ("5", "0.05", "-5%")]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_good(parse: Callable[[str], object], text: str, value: object) -> None:
    """A quantity in its notation is read exactly."""
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_bad(parse: Callable[[str], object], text: str) -> None:
    """Anything else is refused with the notation that would do."""
    with pytest.raises(ValueError, match=r"is not a .*write it as"):
        parse(text)
