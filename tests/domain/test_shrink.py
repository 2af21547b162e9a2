"""`low_budget: shrink`: the largest output cap that what is left has room for."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.domain.estimate import least, shrink, with_cap
from proxy.domain.identity import Bound
from proxy.domain.limits import Limit
from proxy.domain.quota import State
from proxy.domain.usage import FREE, Amounts, Estimate, Price

WINDOWS = st.sampled_from(("minute", "hour", "day", "month", "total"))
UNITS = st.sampled_from(
    ("requests", "tokens", "input tokens", "output tokens", "images", "usd", "concurrent")
)
SMALL = st.integers(0, 60)
PRICES = st.builds(Price, *(st.sampled_from((0, 1, 150_000, 2_500_000, 10_000_001)),) * 4)


def state(unit: str, amount: int, used: int = 0, reserved: int = 0, window: str = "day") -> State:
    return State(Bound(Limit(amount, unit, window), "team", "team 'a'"), used, reserved, amount)


@st.composite
def estimates(draw: st.DrawFn) -> Estimate:
    choices, images, tokens = draw(st.integers(1, 5)), draw(st.integers(0, 3)), draw(SMALL)
    blank = Estimate(Amounts(1, tokens, 0, images, 0), tokens, 0, draw(PRICES), choices)
    return with_cap(blank, draw(st.integers(1, 60)))


@st.composite
def limits(draw: st.DrawFn) -> State:
    unit = draw(UNITS)
    scale = draw(st.sampled_from((1, 5, 10, 11))) if unit == "usd" else draw(st.integers(1, 6))
    return state(unit, scale * draw(SMALL), draw(SMALL), draw(SMALL) // 2, draw(WINDOWS))


def fits(asked: Estimate, cap: int, limits: list[State]) -> bool:
    """Whether the request has room with this cap, reckoned from the contract's own words."""
    one, output, price = asked.amounts, cap * asked.choices, asked.price
    dearest = max(price.input, price.cached_input, price.cache_write)
    millionths = one.input * dearest + output * price.output
    wanted = {
        "requests": 1,
        "tokens": one.input + output,
        "input tokens": one.input,
        "output tokens": output,
        "images": one.images,
        "usd": millionths // 1_000_000 + (millionths % 1_000_000 > 0),
        "concurrent": 1,
    }
    return all(
        not wanted[s.bound.limit.unit]
        or wanted[s.bound.limit.unit] <= s.amount - s.used - s.reserved
        for s in limits
    )


@given(estimates(), st.lists(limits(), max_size=4))
@example(with_cap(Estimate(Amounts(1, 7, 0, 0, 0), 7, 0, Price(1, 3, 1, 1)), 50), [state("usd", 1)])
def test_the_largest_cap_that_fits(asked: Estimate, limits: list[State]) -> None:
    """What is shrunk fits every limit, with one token more per choice it would not, and what
    cannot be shrunk would not fit with a single token.
    """
    smaller = shrink(asked, limits)
    if smaller is None:
        assert not fits(asked, 1, limits)
        return
    assert fits(asked, smaller.cap, limits)
    assert smaller.cap == asked.cap or not fits(asked, smaller.cap + 1, limits)
    assert smaller == with_cap(asked, smaller.cap)


def asked(tokens: int = 10, cap: int = 100, n: int = 1, images: int = 0) -> Estimate:
    blank = Estimate(Amounts(1, tokens, 0, images, 0), tokens, 0, Price(*(1_000_000,) * 4), n)
    return with_cap(blank, cap)


@pytest.mark.parametrize(
    ("left", "n", "cap"),
    [
        ([state("tokens", 110)], 1, 100),
        ([state("tokens", 109)], 1, 99),
        ([state("tokens", 1000, 900, 50)], 1, 40),
        ([state("tokens", 1000, 900, 50)], 3, 13),
        ([state("tokens", 11)], 1, 1),
        ([state("tokens", 12)], 3, None),
        ([state("tokens", 10)], 1, None),
        ([state("output tokens", 7, window="minute")], 2, 3),
        ([state("usd", 31)], 2, 10),
        ([state("tokens", 50), state("output tokens", 30), state("usd", 35)], 1, 25),
        # What the output has no part in cannot be shrunk.
        ([state("requests", 5, 5), state("tokens", 50)], 1, None),
        ([state("concurrent", 2, 0, 2), state("tokens", 50)], 1, None),
        ([state("input tokens", 9), state("tokens", 50)], 1, None),
        ([state("images", 0), state("tokens", 50)], 1, 40),
    ],
)
def test_what_is_left(left: list[State], n: int, cap: int | None) -> None:
    """What others use and reserve is not there, and each choice gets as much as any other."""
    smaller = shrink(asked(n=n), left)
    assert (smaller and smaller.cap) == cap


def test_a_shrunk_estimate_is_whole() -> None:
    """Output and its price shrink; all else that is reserved stays."""
    smaller = with_cap(asked(n=2, images=1), 5)
    assert smaller.amounts == Amounts(requests=1, input=10, output=10, images=1, usd=20)
    assert (smaller.choices, smaller.text, smaller.price) == (2, 10, asked().price)


def test_as_little_as_can_be() -> None:
    """The smallest request of its kind has one token for each choice; of none it has none."""
    assert least(asked(n=4)).amounts.output == 4
    nothing = Estimate(Amounts(1, 5, 0, 0, 0), 5, 0, FREE)
    assert least(nothing) == nothing
    assert shrink(nothing, []) is None
