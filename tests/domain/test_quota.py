"""The 429s: which code, how long to wait, and what is told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.domain.errors import LimitExceeded
from proxy.domain.identity import Bound
from proxy.domain.limits import parse_limit
from proxy.domain.quota import State, failures, refusal
from proxy.domain.ratelimits import limit_headers, shown_of
from proxy.domain.usage import Amounts
from proxy.domain.windows import DAY, HOUR

#: 2026-11-22 18:30:00.250 UTC, in ms.
NOW = int(datetime(2026, 11, 22, 18, 30, tzinfo=UTC).timestamp()) * 1000 + 250
TO_HOUR = HOUR // 2 - 250
TO_DAY = 5 * HOUR + TO_HOUR
TO_MONTH = 8 * DAY + TO_DAY
ASKED = Amounts(requests=1, input=60, output=40, images=2, usd=1_000_000)


def state(
    text: str, used: int = 0, reserved: int = 0, owner: str = "key 'ci'", grant: int = 0
) -> State:
    limit = parse_limit(text)
    return State(Bound(limit, "key:k1", owner), used, reserved, limit.amount + grant)


def refused(*states: State, asked: Amounts = ASKED, support: str = "") -> LimitExceeded:
    error = refusal(states, asked, NOW, support)
    assert error.status == 429
    assert error.envelope()["error"]["param"] is None
    return error


def waits(error: LimitExceeded) -> int | None:
    """Milliseconds; retry-after must say the same in seconds, rounded up."""
    told = error.headers.get("retry-after-ms")
    if told is None:
        assert "retry-after" not in error.headers
        return None
    assert int(error.headers["retry-after"]) == -(-int(told) // 1000)
    return int(told)


RATE, QUOTA = "rate_limit_exceeded", "insufficient_quota"


@pytest.mark.parametrize(
    ("failing", "type", "code", "retried", "wait"),
    [
        # A bucket leaks its whole amount in a minute.
        (state("60 requests/minute", 60), "requests", RATE, True, 1000),
        (state("60 requests/minute", 61), "requests", RATE, True, 2000),
        (state("7 requests/minute", 7), "requests", RATE, True, 8572),
        (state("100 tokens/minute", 1), "tokens", RATE, True, 600),
        (state("100 tokens/minute", 50, 1), "tokens", RATE, True, 30_000),
        (state("1M tokens/minute", 999_901), "tokens", RATE, True, 1),
        (state("0.001 usd/minute", 1), "tokens", RATE, True, 1),
        (state("2 images/minute", 1), "requests", RATE, True, 30_000),
        # A window that is spent turns.
        (state("1000 tokens/hour", 901), "insufficient_quota", QUOTA, False, TO_HOUR),
        (state("1000 tokens/day", 901), "insufficient_quota", QUOTA, False, TO_DAY),
        (state("1 usd/month", 999_000_001), "insufficient_quota", QUOTA, False, TO_MONTH),
        (state("1000 tokens", 1000), "insufficient_quota", QUOTA, False, None),
        (state("5 requests/day", 5), "insufficient_quota", QUOTA, False, TO_DAY),
        # Only what is in flight is in the way.
        (state("1000 tokens/day", 900, 1), "tokens", RATE, True, 1000),
        (state("1000 tokens", 0, 901), "tokens", RATE, True, 1000),
        (state("5 requests/day", 4, 1), "requests", RATE, True, 1000),
        (state("20 concurrent", 0, 20), "requests", RATE, True, 1000),
        # What can never fit.
        (state("99 tokens/minute"), "tokens", RATE, False, None),
        (state("99 tokens/day"), "insufficient_quota", QUOTA, False, None),
        (state("59 input tokens"), "insufficient_quota", QUOTA, False, None),
        (state("1 image/day", 1), "insufficient_quota", QUOTA, False, None),
        (state("0 requests/minute"), "requests", RATE, False, None),
        (state("0 concurrent"), "requests", RATE, False, None),
    ],
    ids=lambda v: v.name if isinstance(v, State) else "",
)
def test_one_limit(failing: State, type: str, code: str, retried: bool, wait: int | None) -> None:
    """The code says whether waiting helps, and the headers how long."""
    error = refused(failing)
    assert (error.type, error.code) == (type, code)
    assert error.headers.get("x-should-retry") == (None if retried else "false")
    assert waits(error) == wait
    assert error.reason == ("budget" if code == QUOTA else "rate_limit")


def test_the_longest_wait_counts() -> None:
    """Of several failing limits the longest wait is told, with the limit that it is for."""
    error = refused(state("1000 tokens/day", 1000), state("5000 tokens/month", 5000))
    assert waits(error) == TO_MONTH
    assert "5,000 tokens/month" in error.message
    error = refused(state("60 requests/minute", 60), state("100 tokens/minute", 100))
    assert waits(error) == 60_000
    assert "100 tokens/minute" in error.message
    assert error.type == "tokens"
    error = refused(state("20 concurrent", 0, 20), state("60 requests/minute", 60))
    assert waits(error) == 1000


def test_a_spent_budget_comes_before_a_bucket() -> None:
    """A bucket and a spent budget together are a spent budget."""
    error = refused(state("60 requests/minute", 60), state("1000 tokens/hour", 1000))
    assert (error.code, error.headers["x-should-retry"]) == (QUOTA, "false")
    assert waits(error) == TO_HOUR


def test_what_never_resets_is_not_waited_for() -> None:
    """Where one of the failing limits never has room again, no time is told."""
    error = refused(state("1000 tokens/hour", 1000), state("1000 tokens", 1000))
    assert waits(error) is None
    assert error.code == QUOTA
    assert "1,000 tokens of the" in error.message


def test_what_never_fits_comes_first() -> None:
    """A request too large for one limit is told so, whatever else is spent."""
    error = refused(state("1000 tokens/day", 1000), state("50 tokens/minute"))
    assert (error.code, error.headers["x-should-retry"]) == (RATE, "false")
    assert waits(error) is None
    assert "50 tokens/minute" in error.message


def test_limits_with_room_are_not_blamed() -> None:
    """Only the limits that have no room count."""
    error = refused(state("1000 tokens/day", 0, owner="team 'a'"), state("9 requests/hour", 9))
    assert "team" not in error.message
    assert waits(error) == TO_HOUR


def test_a_grant_makes_room() -> None:
    """A grant is part of the amount, in the decision and in what is told."""
    assert not failures([state("1000 tokens/day", 1000, grant=100)], ASKED)
    assert "1,100 tokens/day" in refused(state("1000 tokens/day", 1001, grant=100)).message


def test_a_fraction_short_is_still_a_wait() -> None:
    """Where rounding hides what the ledger lacked, the fullest limit is told, a moment away."""
    error = refused(state("1000 tokens/day", 0), state("60 requests/minute", 59))
    assert waits(error) == 1
    assert "60 requests/minute" in error.message


def test_what_asks_for_nothing_needs_no_room() -> None:
    """A request without images is not refused for a limit on images, however full it is."""
    none = Amounts(requests=1, input=1, output=1, images=0, usd=0)
    assert failures([state("0 images/minute", 3), state("1 image/day", 5)], none) == []
    assert failures([state("2 concurrent", 0, 2)], none)


def test_room_is_exact() -> None:
    """A request that fills a limit to the brim has room, and one more has not."""
    brim = state("1000 tokens/day", 800, 100)
    assert failures([brim], ASKED) == []
    assert failures([state("1000 tokens/day", 800, 101)], ASKED)
    assert brim.remaining == 100
    assert state("1000 tokens/day", 999, 100).remaining == 0


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        (
            state("1000 tokens/day", 850, 100),
            "The limit of 1,000 tokens/day of the key 'ci' has no room: 850 used, 100 reserved by "
            "requests in flight, and this request may need 100. Try again when they have ended. "
            "Ask #ai.",
        ),
        (
            state("50 usd/month", 50 * 10**9),
            "The limit of 50 usd/month of the key 'ci' has no room: 50 used, 0 reserved by "
            "requests in flight, and this request may need 0.001. It resets at "
            "2026-12-01T00:00:00Z, in 197h30m0s. Ask #ai.",
        ),
        (
            state("60 requests/minute", 60, owner="team 'vision'"),
            "The limit of 60 requests/minute of the team 'vision' has no room: 60 used, 0 reserved "
            "by requests in flight, and this request may need 1. There is room in 1s. Ask #ai.",
        ),
        (
            state("99 tokens"),
            "The limit of 99 tokens of the key 'ci' has no room: 0 used, 0 reserved by requests in "
            "flight, and this request may need 100. It can never fit: lower max_tokens or n, "
            "shorten the prompt or send fewer images. Ask #ai.",
        ),
        (
            state("1000 tokens", 1000),
            "The limit of 1,000 tokens of the key 'ci' has no room: 1,000 used, 0 reserved by "
            "requests in flight, and this request may need 100. It does not reset; ask your "
            "platform team for more. Ask #ai.",
        ),
        (
            state("2 concurrent", 0, 2),
            "The limit of 2 concurrent of the key 'ci' has no room: 0 used, 2 reserved by requests "
            "in flight, and this request may need 1. Try again when they have ended. Ask #ai.",
        ),
    ],
    ids=lambda v: v.name if isinstance(v, State) else "",
)
def test_the_message(failing: State, message: str) -> None:
    """The limit, whose it is, used, reserved, asked, when it resets, and whom to ask."""
    assert refused(failing, support="Ask #ai.").message == message


def test_the_model_of_a_limit_is_told() -> None:
    """A limit of one model says so."""
    limit = parse_limit("100 tokens/day", "gpt-4o")
    full = State(Bound(limit, "team", "team 'a'"), 100, 0, 100)
    assert "100 tokens/day on gpt-4o of the team 'a'" in refused(full).message


def headers_of(states: list[State], asked: Amounts | None, now: int) -> dict[str, str]:
    figures = [figure for s in states for figure in (s.used, s.reserved, s.amount)]
    return limit_headers(shown_of(s.bound for s in states), figures, asked, now)


def test_headers_of_an_admitted_request() -> None:
    """Limit, remaining and reset are told as they are once the request is reserved."""
    states = [
        state("60 requests/minute", 29),
        state("1000 requests/day", 0),
        state("1000 tokens/day", 500, 100),
        state("10k tokens/minute", 0),
        state("20 concurrent", 0, 3),
        state("5 usd/day", 0),
    ]
    figures = [29, 0, 60, 0, 0, 1000, 500, 100, 1000, 0, 0, 10_000, 0, 3, 20, 0, 0, 5 * 10**9]
    assert limit_headers(shown_of(s.bound for s in states), figures, ASKED, NOW) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "30",
        "x-ratelimit-reset-requests": "30s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "300",
        "x-ratelimit-reset-tokens": "5h30m0s",
    }


def test_the_smallest_share_binds() -> None:
    """Of several token limits, the one with the smallest share left is told, not the smallest."""
    states = [
        state("1000 tokens/day", 100),
        state("9k input tokens/hour", 8000),
        state("500 output tokens"),
    ]
    headers = headers_of(states, None, NOW)
    assert headers == {
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-remaining-tokens": "1000",
        "x-ratelimit-reset-tokens": "30m0s",
    }


def test_a_limit_for_ever_has_no_reset() -> None:
    """A limit without a window tells no reset; one of nothing has nothing left."""
    assert "x-ratelimit-reset-tokens" not in headers_of([state("1M tokens")], ASKED, NOW)
    headers = headers_of([state("0 tokens/minute")], None, NOW)
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert headers["x-ratelimit-reset-tokens"] == "0ms"


def test_a_refusal_tells_what_is_left() -> None:
    """A refused request has taken nothing, so what is left is told whole."""
    headers = refused(state("1000 tokens/day", 950), state("60 requests/minute", 10)).headers
    assert headers["x-ratelimit-remaining-tokens"] == "50"
    assert headers["x-ratelimit-remaining-requests"] == "50"
    assert headers["x-ratelimit-reset-requests"] == "10s"


def test_no_limits_no_headers() -> None:
    """Where nothing limits requests or tokens, nothing is told."""
    assert headers_of([], ASKED, NOW) == {}
    assert headers_of([state("5 usd/day"), state("9 concurrent")], ASKED, NOW) == {}


def test_the_smallest_request_is_told_as_such() -> None:
    """Where no less output can be asked for, the advice is another."""
    error = refusal([state("10 tokens/day", 5)], Amounts(1, 7, 1, 0, 0), NOW, "", shrunk=True)
    assert "this request needs at least 8. It resets at" in error.message
    assert "To fit into the 5 left, shorten the prompt" in error.message
