"""Breakers and keys: who may be asked, and who steps aside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.domain.errors import (
    BadRequest,
    Draining,
    GatewayError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from proxy.domain.health import (
    LEAST,
    LONGEST_PAUSE,
    WINDOW,
    Breaker,
    BreakerRules,
    Lesson,
    Standing,
    State,
    lesson_of,
    retry_after,
)
from proxy.domain.routing import Target
from proxy.domain.usage import FREE

RULES = BreakerRules(failures=3, pause=5.0)


def breaker(rules: BreakerRules = RULES) -> Breaker:
    return Breaker(rules)


def opened(now: float = 0.0) -> Breaker:
    """One that has just opened."""
    made = breaker()
    for _ in range(RULES.failures):
        made.failed(made.begin(now), now)
    return made


def serve(some: Breaker, count: int) -> None:
    some.served += count


def standing(keys: int = 1, concurrent: int = 0, rules: BreakerRules = RULES) -> Standing:
    target = Target("openai", "m", 1, 1, FREE, concurrent=concurrent)
    return Standing(target, keys, rules)


def test_it_opens_after_failures_in_a_row() -> None:
    """The last of so many failures without a success between them opens it."""
    some = breaker()
    states = []
    for _ in range(RULES.failures):
        states.append(some.state)
        some.failed(some.begin(1.0), 1.0)
    assert (set(states), some.state) == ({State.CLOSED}, State.OPEN)
    assert not some.lets(5.99)
    assert some.lets(6.0)


def test_a_success_between_them_begins_the_count_anew() -> None:
    """Failures that are not in a row do not open it, however many they are together."""
    some = breaker()
    for _ in range(10):
        some.failed(some.begin(0.0), 0.0)
        some.failed(some.begin(0.0), 0.0)
        serve(some, 10)
    assert some.state is State.CLOSED


def test_half_of_the_requests_of_a_window_open_it() -> None:
    """Of LEAST requests half have to fail, though no three in a row did."""
    some = breaker()
    for count in range(LEAST // 2):
        assert some.state is State.CLOSED, count
        serve(some, 1)
        some.failed(some.begin(count), count)
    assert some.state is State.OPEN


def test_fewer_than_half_do_not() -> None:
    """A target that serves most requests is asked on."""
    some = breaker()
    for at in range(1000):
        serve(some, 2)
        some.failed(some.begin(at), at)
    assert some.state is State.CLOSED


def test_a_burst_after_a_long_quiet_is_held_against_what_was_served_before() -> None:
    """A hundred streams that break at once do not outweigh the thousand of the same window."""
    some = breaker(BreakerRules(1000, 5.0))
    some.failed(some.begin(0.0), 0.0)
    serve(some, 10_000)
    for _ in range(100):
        some.broke_off(some.epoch, 10 * WINDOW)
    assert some.state is State.CLOSED


def test_what_broke_off_is_no_success() -> None:
    """Where every answer that begins breaks off, it opens."""
    some = breaker()
    for _ in range(LEAST):
        assert some.state is State.CLOSED
        serve(some, 1)
        some.broke_off(some.epoch, 1.0)
    assert some.state is State.OPEN


def test_the_failures_of_another_time_are_forgotten() -> None:
    """What failed two windows ago says nothing now."""
    some = breaker(BreakerRules(1000, 5.0))
    for _ in range(LEAST - 1):
        some.failed(some.begin(0.0), 0.0)
    for _ in range(LEAST // 2):
        some.failed(some.begin(100 * WINDOW), 100 * WINDOW)
    assert some.state is State.CLOSED


def test_one_probe_at_a_time() -> None:
    """After its pause one request may pass, and no other one until that is heard of."""
    some = opened()
    epoch = some.begin(5.0)
    assert some.state is State.HALF_OPEN
    assert not some.lets(5.0)
    some.succeeded(epoch, 7.0)
    assert some.state is State.CLOSED
    assert some.lets(7.0)


def test_a_probe_that_fails_opens_it_for_twice_as_long() -> None:
    """Each failed probe doubles the pause, up to a minute; a success makes it short again."""
    some, now, pauses = opened(), 0.0, []
    for _ in range(6):
        now = some.until
        some.failed(some.begin(now), now)
        pauses.append(some.until - now)
    assert pauses == [10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    some.succeeded(some.begin(some.until), some.until)
    for _ in range(RULES.failures):
        some.failed(some.begin(1000.0), 1000.0)
    assert some.until == 1005.0


def test_a_probe_that_leaves_makes_room_for_the_next() -> None:
    """Where the client of a probe has gone nothing is known, and another one may pass at once."""
    some = opened()
    some.left(some.begin(5.0), 5.5)
    assert some.state is State.OPEN
    assert some.lets(5.5)


def test_a_probe_that_never_answers_holds_the_next_back_for_a_pause() -> None:
    """And if it does answer in the end, that closes it all the same."""
    some = opened()
    slow = some.begin(5.0)
    assert not some.lets(9.9)
    assert some.lets(10.0)
    some.begin(10.0)
    some.succeeded(slow, 30.0)
    assert some.state is State.CLOSED


def test_a_slow_probe_that_fails_does_not_harm_the_one_after_it() -> None:
    """Only the latest probe's failure counts."""
    some = opened()
    slow = some.begin(5.0)
    latest = some.begin(10.0)
    some.failed(slow, 11.0)
    assert some.state is State.HALF_OPEN
    some.failed(latest, 12.0)
    assert some.state is State.OPEN


def test_what_began_before_the_last_change_says_nothing() -> None:
    """Time-outs of requests from before an outage do not open it again after."""
    some = breaker()
    old = [some.begin(0.0) for _ in range(50)]
    for epoch in old[:3]:
        some.failed(epoch, 1.0)
    some.succeeded(old[3], 1.5)
    assert some.state is State.OPEN
    some.succeeded(some.begin(6.0), 6.0)
    for epoch in old[4:]:
        some.failed(epoch, 7.0)
        some.broke_off(epoch, 7.0)
    assert some.state is State.CLOSED


def test_it_can_be_turned_off() -> None:
    """With `failures: 0` nothing opens it."""
    some = breaker(BreakerRules(0, 5.0))
    for _ in range(1000):
        some.failed(some.begin(0.0), 0.0)
        some.broke_off(some.epoch, 0.0)
    assert some.state is State.CLOSED


class Model(RuleBasedStateMachine):
    """A breaker beside a plain account of what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.some = breaker()
        self.now = 0.0
        self.opened = 0  # how often, by failures
        #: Epoch; of a probe how often it had opened by then, else -1.
        self.under_way: list[tuple[int, int]] = []

    @rule(seconds=st.sampled_from([0.0, 0.1, 4.9, 5.0, 31.0, 500.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        if not self.some.lets(self.now):
            self.now = self.some.until
            assert self.some.lets(self.now)
        probe = self.some.state is not State.CLOSED
        self.under_way.append((self.some.begin(self.now), self.opened if probe else -1))
        if probe:
            assert self.some.state is State.HALF_OPEN
            assert not self.some.lets(self.now), "two probes at once"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def succeed(self, data: Any) -> None:
        epoch, opened = self._one(data)
        before = self.some.state
        self.some.served += 1
        self.some.succeeded(epoch, self.now)
        if before is State.CLOSED or opened == self.opened:
            assert self.some.state is State.CLOSED
        else:
            assert self.some.state is before, "an old success closed it"

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def fail(self, data: Any) -> None:
        epoch, _ = self._one(data)
        before, current = self.some.state, epoch == self.some.epoch
        self.some.failed(epoch, self.now)
        self.opened += before is not State.OPEN and self.some.state is State.OPEN
        if not current:
            assert self.some.state is before
        elif before is State.HALF_OPEN:
            assert self.some.state is State.OPEN
            assert self.some.until > self.now

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        epoch, _ = self._one(data)
        before, current = self.some.state, epoch == self.some.epoch
        self.some.left(epoch, self.now)
        if before is State.HALF_OPEN and current:
            assert self.some.lets(self.now)
        else:
            assert self.some.state is before

    @rule()
    def three_in_a_row_open_it(self) -> None:
        if self.some.state is State.CLOSED:
            epochs = [self.some.begin(self.now) for _ in range(3)]
            for epoch in epochs:
                self.some.failed(epoch, self.now)
            self.opened += 1
            assert self.some.state is State.OPEN

    @rule()
    def it_recovers(self) -> None:
        """Whatever has come before, a minute later a success closes it."""
        if self.some.state is not State.CLOSED:
            self.now += LONGEST_PAUSE
            self.some.succeeded(self.some.begin(self.now), self.now)
            assert self.some.state is State.CLOSED

    @invariant()
    def it_is_never_out_for_longer_than_a_minute(self) -> None:
        if self.some.state is not State.CLOSED:
            assert self.some.lets(self.now + LONGEST_PAUSE)

    def _one(self, data: Any) -> tuple[int, int]:
        at = data.draw(st.integers(0, len(self.under_way) - 1))
        return self.under_way.pop(at)


TestModel = Model.TestCase


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), max_size=60))
def test_a_target_that_serves_two_thirds_stays_closed(rounds: list[tuple[int, int]]) -> None:
    """Whatever the times, a rate of failures below a half with no three in a row is borne."""
    some, now = breaker(), 0.0
    for gap, failures in rounds:
        now += gap
        for _ in range(failures):
            serve(some, 2)
            some.failed(some.begin(now), now)
    assert some.state is State.CLOSED


def test_a_key_that_is_aside_is_not_drawn() -> None:
    """Until its time is over the others are used, each as often."""
    some = standing(keys=3)
    some.set_aside(1, 10.0)
    assert {some.key(9.9, draw / 100) for draw in range(100)} == {0, 2}
    assert {some.key(10.0, draw / 100) for draw in range(100)} == {0, 1, 2}
    assert some.plain


def test_where_all_keys_are_aside_the_soonest_is_used() -> None:
    """A provider says of each request itself whether it takes it."""
    some = standing(keys=2)
    some.set_aside(0, 10.0)
    some.set_aside(1, 7.0)
    assert some.key(1.0, 0.0) == 1
    assert some.at_hand(1.0) is None
    assert not some.available(1.0)
    assert some.at_hand(8.0) == 1


def test_a_key_is_aside_for_the_longest_that_was_said() -> None:
    """A shorter wait that is told later does not end a longer one."""
    some = standing()
    some.set_aside(0, 60.0)
    some.set_aside(0, 5.0)
    assert some.at_hand(30.0) is None


def test_full_is_not_failed() -> None:
    """A target with as many requests as it takes gets no more, and is available all the same."""
    some = standing(concurrent=2)
    assert some.takes(0.0)
    some.in_flight = 2
    assert (some.takes(0.0), some.available(0.0)) == (False, True)
    assert not some.plain


def test_disabled_takes_nothing() -> None:
    """What was switched off is neither asked nor available."""
    some = standing()
    some.disabled = True
    some.look()
    assert (some.plain, some.takes(0.0), some.available(0.0)) == (False, False, False)


REFUSAL = UpstreamRefused(400, b"{}")
FAILED = UpstreamFailed("no")
KEY = Lesson(elsewhere=True, aside=60.0)
BROKEN = Lesson(elsewhere=True, again=True, counts=True)


@pytest.mark.parametrize(
    ("failure", "status", "headers", "lesson"),
    [
        (FAILED, 0, {}, BROKEN),
        (FAILED, 200, {}, BROKEN),
        (FAILED, 408, {}, BROKEN),
        (FAILED, 500, {}, BROKEN),
        (FAILED, 529, {}, BROKEN),
        (FAILED, 503, {"retry-after": "2"}, BROKEN),
        (FAILED, 503, {"retry-after": "3"}, Lesson(elsewhere=True, counts=True)),
        (FAILED, 409, {}, Lesson(elsewhere=True, again=True)),
        (UpstreamTimeout("late"), 0, {}, Lesson(elsewhere=True, counts=True)),
        (UpstreamTimeout("late"), 200, {}, Lesson(elsewhere=True, counts=True)),
        (FAILED, 307, {}, Lesson(elsewhere=True, counts=True)),
        (FAILED, 204, {}, Lesson(elsewhere=True, counts=True)),
        (FAILED, 401, {}, KEY),
        (FAILED, 402, {}, KEY),
        (FAILED, 403, {}, KEY),
        (REFUSAL, 429, {}, Lesson(elsewhere=True, aside=5.0)),
        (REFUSAL, 429, {"retry-after": "0.5"}, Lesson(elsewhere=True, aside=0.5)),
        (REFUSAL, 429, {"retry-after-ms": "20"}, Lesson(elsewhere=True, aside=0.02)),
        (REFUSAL, 429, {"retry-after": "86400"}, Lesson(elsewhere=True, aside=60.0)),
        (
            UpstreamRefused(429, b"{}", headers={"retry-after": "35"}),
            *(429, {}, Lesson(elsewhere=True, aside=35.0)),
        ),
        (UpstreamRefused(429, b'{"code":"insufficient_quota"}'), 429, {}, KEY),
        (REFUSAL, 400, {}, Lesson()),
        (REFUSAL, 404, {}, Lesson()),
        (REFUSAL, 413, {}, Lesson()),
        (REFUSAL, 422, {}, Lesson()),
        (FAILED, 418, {}, Lesson()),
        (Draining("bye"), 0, {}, Lesson()),
        (BadRequest("no"), 0, {}, Lesson()),
    ],
)
def test_what_a_failure_teaches(
    failure: GatewayError, status: int, headers: dict[str, str], lesson: Lesson
) -> None:
    """Whether another may do better, the same later, and who is to blame."""
    assert lesson_of(failure, status, headers) == lesson


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1", "retry-after-ms": "20"}, 0.02),
        ({"retry-after": "1", "retry-after-ms": "soon"}, 1.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, or milliseconds under the other name; what is neither is not believed."""
    assert retry_after(headers) == seconds
