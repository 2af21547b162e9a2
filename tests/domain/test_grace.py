"""What a worker may admit on its own account while the store is away."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.grace import Grace, most_over
from proxy.domain.identity import Bound
from proxy.domain.limits import parse_limit
from proxy.domain.usage import Amounts
from proxy.domain.windows import DAY, MINUTE

NOW = 1_795_348_800_000  # noon, UTC
FIVE = Decimal("0.05")


def bound(text: str, scope: str = "team", grant: int = 0, stamp: int = -1) -> Bound:
    return Bound(parse_limit(text), scope, "team 'vision'", grant, stamp)


def opened(share: Decimal) -> Grace:
    grace = Grace(share)
    grace.open = True
    return grace


def tokens(count: int) -> Amounts:
    return Amounts(1, count, 0, 0, 0)


def admitted(grace: Grace, limit: Bound, asked: Amounts, now: int = NOW, most: int = 100) -> int:
    """How many requests get in one after the other."""
    for count in range(most):
        if grace.admit("vision", [limit], asked, now) is None:
            return count
    return most


def test_a_share_of_each_limit() -> None:
    """So many tokens are admitted as the share of the limit has."""
    assert admitted(opened(FIVE), bound("1000 tokens/day"), tokens(10)) == 5


def test_a_newcomer_has_none() -> None:
    """A worker that others may not know of yet admits nothing, or the shares would not add up."""
    assert admitted(Grace(FIVE), bound("1000 tokens/day"), tokens(1)) == 0


def test_divided_by_the_workers() -> None:
    """Several workers have the share between them."""
    grace = opened(FIVE)
    grace.workers = 2
    assert admitted(grace, bound("1000 tokens/day"), tokens(5)) == 5


def test_who_was_not_heard_yet_still_counts() -> None:
    """A store that has just come back knows of few workers: the others' shares stay theirs."""
    grace, limit = opened(FIVE), bound("1000 tokens/day")
    grace.counted(5, steady=True)
    grace.counted(1, steady=False)
    assert admitted(grace, limit, tokens(2)) == 5
    grace.counted(6, steady=False)
    assert grace.workers == 6
    grace.counted(1, steady=True)
    assert admitted(grace, limit, tokens(10)) == 4


def test_open_once_all_were_heard() -> None:
    """A newcomer has its share when every other worker has had the time to count it."""
    grace = Grace(FIVE)
    grace.counted(2, steady=False)
    assert not grace.open
    grace.counted(2, steady=True)
    assert grace.open


def test_at_least_one_request() -> None:
    """A share smaller than a request admits one, and another only as it has used nothing."""
    grace, limit = opened(FIVE), bound("1000 tokens/day")
    first = grace.admit("vision", [limit], tokens(800), NOW)
    assert first is not None
    assert grace.admit("vision", [limit], tokens(1), NOW) is None
    grace.end(first, tokens(0))
    assert grace.admit("vision", [limit], tokens(800), NOW) is not None


def test_what_could_never_fit() -> None:
    """A request larger than a whole limit, or under one of nothing, is not admitted."""
    assert admitted(opened(FIVE), bound("1000 tokens/day"), tokens(1001)) == 0
    assert admitted(opened(FIVE), bound("0 tokens/day"), tokens(1)) == 0


def test_what_was_not_used_comes_back() -> None:
    """A request that used less than its worst case leaves room for others."""
    grace, limit = opened(FIVE), bound("1000 tokens/day")
    first = grace.admit("vision", [limit], tokens(40), NOW)
    assert first is not None
    assert grace.admit("vision", [limit], tokens(40), NOW) is None
    grace.end(first, tokens(10))
    assert grace.admit("vision", [limit], tokens(40), NOW) is not None


def test_one_allowance_a_window() -> None:
    """What was used stays used until the window turns; for ever where it does not."""
    for text, later, again in (
        ("1000 tokens/minute", MINUTE, 5),
        ("1000 tokens/day", DAY, 5),
        ("1000 tokens", 400 * DAY, 0),
    ):
        grace, limit = opened(FIVE), bound(text)
        assert admitted(grace, limit, tokens(10)) == 5
        assert admitted(grace, limit, tokens(10), NOW + later) == again, text


def test_what_ends_after_its_window() -> None:
    """A request that outlives its window gives nothing back to the next one."""
    grace, limit = opened(FIVE), bound("1000 tokens/day")
    before = grace.admit("vision", [limit], tokens(50), NOW)
    assert before is not None
    assert admitted(grace, limit, tokens(10), NOW + DAY) == 5
    grace.end(before, tokens(0))
    assert admitted(grace, limit, tokens(10), NOW + DAY) == 0


def test_concurrent_is_of_what_runs() -> None:
    """A request that is over no longer counts as one at the same time."""
    grace, limit = opened(FIVE), bound("40 concurrent")
    first = grace.admit("vision", [limit], tokens(1), NOW)
    assert first is not None
    assert grace.admit("vision", [limit], tokens(1), NOW) is not None
    assert grace.admit("vision", [limit], tokens(1), NOW) is None
    grace.end(first, tokens(1))
    assert grace.admit("vision", [limit], tokens(1), NOW) is not None


def test_every_limit_must_have_room() -> None:
    """What one limit refuses takes nothing of the others."""
    grace = opened(FIVE)
    both = [bound("100 requests/day"), bound("1000 tokens/day", "key:k1")]
    assert grace.admit("vision", both, tokens(50), NOW) is not None
    assert grace.admit("vision", both, tokens(50), NOW) is None
    assert admitted(grace, both[0], tokens(50)) == 4


def test_teams_apart() -> None:
    """One team's use is not another's."""
    grace, limit = opened(FIVE), bound("1000 tokens/day")
    assert admitted(grace, limit, tokens(50)) == 1
    assert grace.admit("search", [limit], tokens(50), NOW) is not None


def test_a_grant_counts() -> None:
    """A grant of this window adds to the limit, one of another does not."""
    today = NOW // DAY
    assert admitted(opened(FIVE), bound("1000 tokens/day", "team", 1000, today), tokens(10)) == 10
    assert admitted(opened(FIVE), bound("1000 tokens/day", "team", 1000, 1), tokens(10)) == 5


@given(
    amount=st.integers(0, 10_000),
    share=st.decimals(0, 1, places=3),
    asked=st.lists(st.tuples(st.integers(1, 2_000), st.integers(0, 2_000)), max_size=30),
)
def test_never_above_the_bound(amount: int, share: Decimal, asked: list[tuple[int, int]]) -> None:
    """Whatever comes, no more is admitted than the share, or than one request."""
    grace, limit = opened(share), bound(f"{amount} tokens/day")
    used = 0
    largest = 0
    for worst, actual in asked:
        lease = grace.admit("vision", [limit], tokens(worst), NOW)
        if lease is not None:
            spent = min(worst, actual)
            largest = max(largest, worst)
            grace.end(lease, tokens(spent))
            used += spent
    assert used <= max(most_over([limit], share)["tokens/day"], min(largest, amount))


def test_announced() -> None:
    """The most over the limits is summed by unit and window, money in usd."""
    limits = [bound("50 usd/month"), bound("10 usd/month"), bound("1000 tokens/day")]
    assert most_over(limits, FIVE) == {"tokens/day": 50, "usd/month": 3.0}


def test_announced_for_models() -> None:
    """Limits on models are summed where there is none for all models, else that one tells."""

    def on(model: str, owner: str) -> Bound:
        return Bound(parse_limit("1000 tokens/day", model), "team", owner)

    assert most_over([on("a", "one"), on("b", "one"), on("*", "two"), on("a", "two")], FIVE) == {
        "tokens/day": 150
    }
