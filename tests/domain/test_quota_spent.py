"""What is used up for every request: known for as long as its window lasts."""

from __future__ import annotations

import pytest

from proxy.domain.identity import Bound
from proxy.domain.limits import parse_limit
from proxy.domain.quota import Spent, State
from proxy.domain.windows import DAY
from tests.domain.test_quota import NOW, QUOTA, TO_HOUR, state, waits


def test_spent_until_the_window_turns() -> None:
    """What every request is told ends with the window, and the wait for it shrinks."""
    spent = Spent((state("1000 tokens/hour", 1000), state("9 requests/day", 1)), NOW, "Ask #ai.")
    error = spent.refusal(NOW + 3000)
    assert error is not None
    assert (error.code, error.headers["x-should-retry"]) == (QUOTA, "false")
    assert waits(error) == TO_HOUR - 3000
    assert error.headers["x-ratelimit-remaining-requests"] == "8"
    assert error.message == (
        "The limit of 1,000 tokens/hour of the key 'ci' has no room: 1,000 used, 0 reserved by "
        "requests in flight. It resets at 2026-11-22T19:00:00Z, in 29m57s. Ask #ai."
    )
    assert spent.refusal(NOW + TO_HOUR - 1)
    assert spent.refusal(NOW + TO_HOUR) is None


def test_what_is_spent_for_longer_is_told_for_longer() -> None:
    """Of several windows that are spent, those that have turned are no longer told of."""
    spent = Spent((state("10 tokens/hour", 10), state("10 requests", 10)), NOW, "")
    for now in (NOW, NOW + DAY):
        error = spent.refusal(now)
        assert error is not None
        assert "10 requests of the" in error.message
        assert waits(error) is None


@pytest.mark.parametrize(
    ("limit", "spent"),
    [
        (state("1000 tokens/hour", 1000), True),
        (state("1000 tokens/hour", 1001), True),
        (state("1000 input tokens/month", 1000), True),
        (state("9 requests", 9), True),
        (state("0 requests/day"), True),
        (state("1000 tokens/hour", 999), False),
        (state("1000 tokens/hour", 0, 1000), False),
        (state("1000 tokens/hour", 1000, grant=1), False),
        (state("1000 tokens/minute", 1000), False),
        (state("1000 output tokens/hour", 1000), False),
        (state("5 images/day", 5), False),
        (state("1 usd/day", 10**9), False),
        (state("1 concurrent", 0, 1), False),
    ],
    ids=lambda v: v.name if isinstance(v, State) else "",
)
def test_what_no_request_fits(limit: State, spent: bool) -> None:
    """Known to be spent is what is used up, not reserved, of something that all requests need."""
    assert (Spent((limit,), NOW, "").refusal(NOW) is not None) is spent


def test_what_other_models_fit() -> None:
    """A limit of one model leaves room for the others."""
    limit = parse_limit("100 tokens/day", "gpt-4o")
    full = State(Bound(limit, "team", "team 'a'"), 100, 0, 100)
    assert Spent((full,), NOW, "").refusal(NOW) is None
