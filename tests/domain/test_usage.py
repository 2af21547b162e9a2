"""Prices, charges, and usage that can be believed."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.domain.limits import UNITS
from proxy.domain.usage import (
    FREE,
    MOST_TOKENS,
    Amounts,
    Charge,
    Estimate,
    Outcome,
    Phase,
    Price,
    Usage,
    charge,
    most_believed,
    read_usage,
)
from tests.domain.streams import LIES

GPT_4O = Price.from_usd(2.5, 10, 1.25)
MINI = Price.from_usd(Decimal("0.15"), 0.6, 0.075)

#: 100 of text, 765 of one image, 500 of output.
RESERVED = Estimate(
    Amounts(requests=1, input=865, output=500, images=1, usd=GPT_4O.worst(865, 500)),
    text=100,
    image=765,
    price=GPT_4O,
)


def test_prices_are_integers() -> None:
    """A price list's dollars become nano-usd per million tokens, exactly."""
    assert Price.from_usd(0.15, 0.6) == Price(150_000_000, 600_000_000, 150_000_000, 150_000_000)
    assert Price.from_usd(2.5, 10, 0, 3.75) == Price(2_500_000_000, 10**10, 0, 3_750_000_000)
    assert Price.from_usd(0.1, 0, cache_write=0).cache_write == 100_000_000
    assert Price.from_usd(Decimal("0.0000000001"), 0).input == 1


@pytest.mark.parametrize(
    ("price", "usage", "nano"),
    [
        (GPT_4O, Usage(12, 3), 60_000),
        (GPT_4O, Usage(12, 3, cached=4), 55_000),
        (MINI, Usage(1, 0), 150),
        (MINI, Usage(1, 0, cached=1), 75),
        (Price(1, 0, 0, 0), Usage(1, 0), 1),
        (Price(1, 0, 0, 0), Usage(1_000_000, 0), 1),
        (Price(1, 1, 0, 0), Usage(500_000, 500_001), 2),
        (Price.from_usd(3, 15, 0.3, 3.75), Usage(1000, 10, 200, 300), 2_835_000),
        (FREE, Usage(10**9, 10**9), 0),
        (GPT_4O, Usage(0, 0), 0),
    ],
)
def test_cost(price: Price, usage: Usage, nano: int) -> None:
    """A request costs its tokens, rounded up once."""
    assert price.cost(usage) == nano


PRICES = st.builds(Price, *[st.integers(0, 10**12)] * 4)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    input = draw(st.integers(0, MOST_TOKENS))
    cached = draw(st.integers(0, input))
    return Usage(
        input,
        draw(st.integers(0, MOST_TOKENS)),
        cached,
        draw(st.integers(0, input - cached)),
        draw(st.none() | st.integers(0, MOST_TOKENS)),
    )


@given(PRICES, usages())
def test_cost_is_exact_and_bounded(price: Price, usage: Usage) -> None:
    """The cost is the least integer not under the exact one, and never above the worst."""
    exact = Fraction(
        (usage.input - usage.cached - usage.cache_write) * price.input
        + usage.cached * price.cached_input
        + usage.cache_write * price.cache_write
        + usage.output * price.output,
        1_000_000,
    )
    assert 0 <= price.cost(usage) - exact < 1
    assert price.cost(usage) <= price.worst(usage.input, usage.output)


@pytest.mark.parametrize(
    ("outcome", "charged"),
    [
        (Outcome(Phase.NOT_CALLED, None, 0), (0, 0, 0, 0, "estimated")),
        (Outcome(Phase.NOT_CALLED, None, 0, hidden=True), (0, 0, 0, 0, "estimated")),
        (Outcome(Phase.REFUSED, None, 0), (1, 0, 0, 0, "estimated")),
        (Outcome(Phase.REFUSED, Usage(5, 5), 7, hidden=True), (1, 0, 0, 0, "estimated")),
        (Outcome(Phase.CALLED, None, 0), (1, 865, 0, 1, "estimated")),
        (Outcome(Phase.CALLED, None, 0, hidden=True), (1, 865, 500, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 20), (1, 865, 20, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 501), (1, 865, 501, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 501, exact=False), (1, 865, 500, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 20, exact=False), (1, 865, 20, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 501, hidden=True), (1, 865, 501, 1, "estimated")),
        (Outcome(Phase.STREAMING, None, 20, hidden=True), (1, 865, 500, 1, "estimated")),
        (Outcome(Phase.COMPLETE, None, 20, hidden=True), (1, 865, 500, 1, "estimated")),
        (Outcome(Phase.COMPLETE, Usage(870, 30), 0), (1, 870, 30, 1, "upstream")),
        (Outcome(Phase.COMPLETE, Usage(870, 30), 0, hidden=True), (1, 870, 30, 1, "upstream")),
        (Outcome(Phase.COMPLETE, Usage(870, 900), 0), (1, 870, 900, 1, "upstream")),
        (Outcome(Phase.COMPLETE, Usage(870, 900), 9), (1, 870, 909, 1, "upstream")),
        (Outcome(Phase.STREAMING, Usage(870, 1), 9), (1, 870, 10, 1, "upstream")),
        (Outcome(Phase.STREAMING, Usage(870, 1), 10**6), (1, 870, 10**6 + 1, 1, "upstream")),
        (Outcome(Phase.STREAMING, Usage(870, 1), 999, exact=False), (1, 870, 500, 1, "upstream")),
        (Outcome(Phase.STREAMING, Usage(870, 0), 9), (1, 870, 9, 1, "estimated")),
        (Outcome(Phase.COMPLETE, Usage(870, 0), 9), (1, 870, 9, 1, "estimated")),
        (Outcome(Phase.STREAMING, Usage(870, 0), 9, hidden=True), (1, 870, 500, 1, "estimated")),
        (Outcome(Phase.STREAMING, Usage(870, 0), 0, hidden=True), (1, 870, 500, 1, "estimated")),
        (Outcome(Phase.COMPLETE, Usage(870, 0), 0, hidden=True), (1, 870, 0, 1, "upstream")),
        (Outcome(Phase.CALLED, Usage(870, 0), 0, hidden=True), (1, 870, 0, 1, "upstream")),
        (Outcome(Phase.COMPLETE, Usage(0, 0), 0), (1, 0, 0, 1, "upstream")),
    ],
)
def test_what_is_charged(outcome: Outcome, charged: tuple[object, ...]) -> None:
    """Each way to end has its charge: the upstream's figures, our count, the reserve, nothing."""
    found = charge(RESERVED, outcome)
    amounts = found.amounts
    got = (amounts.requests, amounts.input, amounts.output, amounts.images, found.source)
    assert got == charged
    assert amounts.usd == GPT_4O.cost(Usage(amounts.input, amounts.output))


@pytest.mark.parametrize(
    ("usage", "image"),
    [
        (None, 765),
        (Usage(865, 1, image=700), 700),
        (Usage(865, 1, image=0), 0),
        (Usage(865, 1, image=900), 865),
        (Usage(300, 1), 200),
        (Usage(80, 1), 0),
    ],
)
def test_image_tokens(usage: Usage | None, image: int) -> None:
    """Image tokens are the upstream's, or what of the input is not text; never more than it."""
    assert charge(RESERVED, Outcome(Phase.COMPLETE, usage, 0)).image == image


def test_no_image_no_image_tokens() -> None:
    """A request without images has no image tokens, whatever the input was."""
    text = replace(RESERVED, amounts=replace(RESERVED.amounts, images=0), image=0)
    assert charge(text, Outcome(Phase.COMPLETE, Usage(900, 1), 0)).image == 0


def test_cached_tokens_are_told_and_cheaper() -> None:
    """Cached input is a part of the input with a price of its own."""
    found = charge(RESERVED, Outcome(Phase.COMPLETE, Usage(870, 30, cached=400), 0))
    assert found.cached == 400
    assert found.amounts.usd == (470 * 2500) + (400 * 1250) + (30 * 10_000)


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(Phase),
    st.none() | usages(),
    st.integers(0, 10**7),
    st.booleans(),
    st.booleans(),
)


@given(OUTCOMES, PRICES, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_charge_is_never_negative(
    outcome: Outcome, price: Price, text: int, image: int, output: int
) -> None:
    """No figure of a charge is negative, and without a usage a guess is not over the reserve."""
    reserved = Amounts(1, text + image, output, 1, price.worst(text + image, output))
    found = charge(Estimate(reserved, text, image, price), outcome)
    figures = [found.amounts.of(unit) for unit in UNITS]
    assert min(*figures, found.cached, found.image) >= 0
    assert found.image <= found.amounts.input
    assert found.cached <= found.amounts.input
    if outcome.usage is None and not outcome.exact:
        assert all(found.amounts.of(unit) <= reserved.of(unit) for unit in UNITS)


def test_amounts_by_unit() -> None:
    """Each unit of a limit reads its own amount, and a request is one concurrent."""
    amounts = Amounts(requests=1, input=20, output=300, images=4, usd=5000)
    assert {unit: amounts.of(unit) for unit in UNITS} == {
        "requests": 1,
        "tokens": 320,
        "input tokens": 20,
        "output tokens": 300,
        "images": 4,
        "usd": 5000,
        "concurrent": 1,
    }


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_believed(lie: Any) -> None:
    """Usage that is no pair of plausible counts is none."""
    assert read_usage(lie) is None


@pytest.mark.parametrize(
    ("details", "usage"),
    [
        ({"cached_tokens": 5}, Usage(12, 3, cached=5)),
        ({"cached_tokens": 50}, Usage(12, 3, cached=12)),
        ({"cached_tokens": -5}, Usage(12, 3)),
        ({"cached_tokens": 5.0}, Usage(12, 3)),
        ({"cached_tokens": 10, "cache_write_tokens": 5}, Usage(12, 3, 10, 2)),
        ({"image_tokens": 7}, Usage(12, 3, image=7)),
        ({"image_tokens": None}, Usage(12, 3)),
        ([], Usage(12, 3)),
        (None, Usage(12, 3)),
        ("x", Usage(12, 3)),
    ],
)
def test_details(details: Any, usage: Usage) -> None:
    """Parts of the input are read where they fit into it."""
    found = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": details}
    assert read_usage(found) == usage


@pytest.mark.parametrize(
    ("total", "output"), [(15, 3), (100, 88), (12, 3), (0, 3), (None, 3), (10**30, 3), (-1, 3)]
)
def test_reasoning_beside_the_completion(total: Any, output: int) -> None:
    """A total above its parts holds reasoning, which is output."""
    found = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": total}
    assert read_usage(found) == Usage(12, output)


def test_the_most_that_is_believed() -> None:
    """The largest believable usage still costs an integer that the ledger's doubles hold."""
    found = read_usage({"prompt_tokens": MOST_TOKENS, "completion_tokens": MOST_TOKENS})
    assert found == Usage(MOST_TOKENS, MOST_TOKENS)
    assert Price.from_usd(1000, 1000).cost(found) < 2**53


@pytest.mark.parametrize(
    ("prompt", "completion", "total", "believed"),
    [
        (865, 500, 1365, True),
        (4 * 865 + 1_000_000, 4 * 500 + 100_000, 0, True),
        (4 * 865 + 1_000_001, 1, 0, False),
        (865, 4 * 500 + 100_001, 0, False),
        (10, 5, 2**31 - 1, False),
        (0, 5, 5, False),
        (0, 0, 0, False),
    ],
)
def test_what_can_be_real(prompt: int, completion: int, total: int, believed: bool) -> None:
    """More than was reserved is believed, a multiple of it is not, and no prompt is empty."""
    found = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    assert (read_usage(found, most_believed(RESERVED)) is not None) is believed


def test_a_charge_is_a_value() -> None:
    """Nothing asked, nothing charged."""
    nothing = Charge(Amounts(0, 0, 0, 0, 0), 0, 0, "estimated")
    assert charge(RESERVED, Outcome(Phase.NOT_CALLED, None, 0)) == nothing
