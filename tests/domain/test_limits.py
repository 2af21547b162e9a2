"""The grammar of limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.limits import (
    LARGEST,
    UNITS,
    WINDOWS,
    Limit,
    LimitSyntax,
    format_amount,
    merge,
    parse_limit,
)

READ = [
    ("60 requests/minute", Limit(60, "requests", "minute")),
    ("1 request/hour", Limit(1, "requests", "hour")),
    ("200k tokens/minute", Limit(200_000, "tokens", "minute")),
    ("1.5M tokens/day", Limit(1_500_000, "tokens", "day")),
    ("5G tokens", Limit(5_000_000_000, "tokens", "total")),
    ("5G tokens/total", Limit(5_000_000_000, "tokens", "total")),
    ("1 token", Limit(1, "tokens", "total")),
    ("10 input tokens/hour", Limit(10, "input tokens", "hour")),
    ("1 input token", Limit(1, "input tokens", "total")),
    ("10k output  tokens / day", Limit(10_000, "output tokens", "day")),
    ("1 output token", Limit(1, "output tokens", "total")),
    ("3 images/day", Limit(3, "images", "day")),
    ("1 image", Limit(1, "images", "total")),
    ("50 usd/month", Limit(50_000_000_000, "usd", "month")),
    ("0.15 USD", Limit(150_000_000, "usd", "total")),
    ("0.000000001 usd", Limit(1, "usd", "total")),
    ("2k usd/Month", Limit(2_000_000_000_000, "usd", "month")),
    ("20 concurrent", Limit(20, "concurrent", "total")),
    (" 1_000  Tokens/ Day ", Limit(1000, "tokens", "day")),
    ("1 M tokens/day", Limit(1_000_000, "tokens", "day")),
    ("0 tokens/day", Limit(0, "tokens", "day")),
    ("1.000 requests", Limit(1, "requests", "total")),
    (f"{LARGEST} tokens", Limit(LARGEST, "tokens", "total")),
]

REFUSED = [
    ("", "is not a limit"),
    ("tokens/day", "is not a limit"),
    ("-5 tokens/day", "is not a limit"),
    ("1e6 tokens", "is not a limit"),
    ("5tokens", "is not a limit"),
    ("5 tokens/", "is not a limit"),
    ("5 tokens per day", "is not a limit"),
    ("5 tokens/day extra", "is not a limit"),
    ("٣ tokens", "is not a limit"),
    (".5 usd", "is not a limit"),
    ("5 tokns/day", "did you mean 'tokens'"),
    ("5 request s/day", "did you mean 'requests'"),
    ("5 dollars/day", "known: requests, tokens"),
    ("5 tokens/dya", "did you mean 'day'"),
    ("5 tokens/min", "did you mean 'minute'"),
    ("5 tokens/week", "known: minute, hour, day, month, total"),
    ("5m tokens", "unknown factor 'm'"),
    ("5K tokens", "unknown factor 'K'"),
    ("5T tokens", "k, M or G"),
    ("20 concurrent/minute", "concurrent has no window"),
    ("1.5 tokens", "not a whole number"),
    ("0.0001k requests", "not a whole number"),
    ("0.0000000001 usd", "billionth"),
    (f"{LARGEST + 1} tokens", "too large"),
    ("10M usd", "too large; at most 9,007,199"),
    ("9" * 5000 + " tokens", "too large"),
]


@pytest.mark.parametrize(("text", "limit"), READ)
def test_limits_that_are_read(text: str, limit: Limit) -> None:
    """Every unit, window, singular and factor of the grammar is read exactly."""
    assert parse_limit(text) == limit


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_limits_that_are_refused(text: str, why: str) -> None:
    """What is not quite a limit is refused with what would do."""
    with pytest.raises(LimitSyntax) as caught:
        parse_limit(text)
    assert why in str(caught.value)


def test_a_limit_of_a_model() -> None:
    """A limit may be for one model, which is part of its slot."""
    limit = parse_limit("5 tokens/day", "gpt-4o")
    assert limit == Limit(5, "tokens", "day", "gpt-4o")
    assert limit.slot == ("tokens", "day", "gpt-4o")
    assert str(limit) == "5 tokens/day on gpt-4o"


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (50_000_000_000, "usd", "50"),
        (500_000_000, "usd", "0.50"),
        (1, "usd", "0.000000001"),
        (1_234_567_000_000_000, "usd", "1,234,567"),
        (12_345_600_000, "usd", "12.3456"),
        (0, "usd", "0"),
        (LARGEST, "usd", "9,007,199.254740991"),
        (200_000, "tokens", "200,000"),
        (100, "tokens", "100"),
        (0, "images", "0"),
    ],
)
def test_amounts_as_people_write_them(amount: int, unit: str, text: str) -> None:
    """Thousands are set apart, and dollars have cents or none."""
    assert format_amount(amount, unit) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("50 usd/month", "50 usd/month"),
        ("1.5M tokens/day", "1,500,000 tokens/day"),
        ("20 concurrent", "20 concurrent"),
        ("1 token", "1 tokens"),
    ],
)
def test_a_limit_as_text(text: str, shown: str) -> None:
    """A limit is shown in its own grammar, with its amount written out."""
    assert str(parse_limit(text)) == shown


@given(st.integers(0, LARGEST), st.sampled_from(UNITS), st.sampled_from(WINDOWS))
def test_a_shown_limit_is_read_back(amount: int, unit: str, window: str) -> None:
    """What is shown says exactly what the limit is, but for the commas."""
    limit = Limit(amount, unit, "total" if unit == "concurrent" else window)
    assert parse_limit(str(limit).replace(",", "")) == limit


@given(st.text(alphabet="0123456789.kMG /tokensuday_-", max_size=24))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, it is a limit within bounds or a LimitSyntax."""
    try:
        limit = parse_limit(text)
    except LimitSyntax:
        return
    assert 0 <= limit.amount <= LARGEST
    assert limit.unit in UNITS
    assert limit.window in WINDOWS


def test_overrides_replace_their_slot() -> None:
    """An override takes the place of the limit of its slot, and others are added."""
    base = (parse_limit("5 tokens/day"), parse_limit("9 usd"), parse_limit("5 tokens/day", "m"))
    over = (parse_limit("7 tokens/day"), parse_limit("7 tokens/hour"))
    assert merge(base, over) == (over[0], base[1], base[2], over[1])
    assert merge((), over) == over
    assert merge(base, ()) == base
