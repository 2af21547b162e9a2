"""Where a request goes among the targets of its model, and where it goes next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.domain.errors import ModelNotFound, NoTarget
from proxy.domain.health import BreakerRules, Lesson, Standing
from proxy.domain.routing import Health, Roster, Target, Tried, find_model
from tests.domain.test_routing import model, target

BROKEN = Lesson(elsewhere=True, again=True, counts=True)
LATE = Lesson(elsewhere=True, counts=True)
LIMITED = Lesson(elsewhere=True, aside=5.0)


def roster(*targets: Target, keys: int = 1, failures: int = 1) -> Roster:
    """Targets whose breakers open at so many failures, for 5 s."""
    known = {target.provider: keys for target in targets}
    rules = BreakerRules(failures, 5.0)
    return Health([model(*targets)], known, lambda _: rules).rosters["gpt-4o"]


def by_name(some: Roster) -> dict[str, Standing]:
    return {s.target.provider: s for s in some.standings}


def open_breaker(standing: Standing, now: float = 0.0) -> None:
    standing.breaker.failed(standing.begin(now), now)
    standing.look()


def chosen(some: Roster, now: float = 0.0, draws: int = 100) -> dict[str, int]:
    names = [some.choose(now, n / draws).target.provider for n in range(draws)]
    return {name: names.count(name) for name in sorted(set(names))}


def test_the_next_priority_serves_where_the_first_is_out() -> None:
    """Only once nobody of a priority can be asked does the next one get requests."""
    some = roster(target("a"), target("b"), target("c", priority=2))
    at = by_name(some)
    assert chosen(some) == {"a": 50, "b": 50}
    open_breaker(at["a"])
    assert chosen(some) == {"b": 100}
    at["b"].set_aside(0, 9.0)
    assert chosen(some) == {"c": 100}


def test_the_weights_of_those_that_are_left_are_the_shares() -> None:
    """The share of one that is out goes to the others by their weights."""
    some = roster(target("a", 2), target("b", 1), target("c", 3))
    open_breaker(by_name(some)["a"])
    assert chosen(some) == {"b": 25, "c": 75}


def test_of_equal_weights_the_least_loaded_serves() -> None:
    """The draw decides between weights; between equal ones, who has less to do."""
    some = roster(target("a"), target("b"), target("c", 2))
    at = by_name(some)
    at["a"].in_flight = 1
    assert chosen(some) == {"b": 50, "c": 50}
    at["b"].in_flight = 1
    assert chosen(some) == {"a": 25, "b": 25, "c": 50}


def test_where_all_keys_are_aside_requests_go_as_usual() -> None:
    """The provider's own word on this very request is worth more than its word on another."""
    some = roster(target("a"), target("b", priority=2))
    for standing in some.standings:
        standing.set_aside(0, 60.0)
    assert chosen(some) == {"a": 100}


def test_one_probe_goes_to_a_target_that_was_out() -> None:
    """After its pause a target is drawn again; once, until it is heard of."""
    some = roster(target("a"), target("b", priority=2))
    open_breaker(by_name(some)["a"])
    assert chosen(some, 4.9) == {"b": 100}
    assert some.choose(5.0, 0.0).target.provider == "a"
    by_name(some)["a"].begin(5.0)
    assert chosen(some, 5.0) == {"b": 100}


def test_all_breakers_are_open() -> None:
    """A 503 that says when the next probe may pass."""
    some = roster(target("a"), target("b"))
    open_breaker(some.standings[0], 0.0)
    open_breaker(some.standings[1], 2.0)
    with pytest.raises(NoTarget) as caught:
        some.choose(2.5, 0.0)
    error = caught.value
    assert (error.status, error.reason) == (503, "no_target")
    assert error.headers == {"retry-after": "3"}
    assert "'gpt-4o' are failing" in error.message


def test_all_are_full() -> None:
    """A 503 that says to come back in a second."""
    full = Target("a", "m", 1, 1, target("a").price, concurrent=1)
    some = roster(full)
    some.standings[0].in_flight = 1
    with pytest.raises(NoTarget, match="as busy as they may be") as caught:
        some.choose(0.0, 0.0)
    assert caught.value.headers == {"retry-after": "1"}


def test_all_are_disabled() -> None:
    """A 503 that says not to come back soon."""
    health = Health([model(target("a"), target("b"))], {"a": 1, "b": 1})
    some = health.rosters["gpt-4o"]
    health.disabled = frozenset({("gpt-4o", "a"), ("other", "b")})
    assert chosen(some) == {"b": 100}
    health.disabled = frozenset({("gpt-4o", "a"), ("gpt-4o", "b")})
    with pytest.raises(NoTarget, match="switched off") as caught:
        some.choose(0.0, 0.0)
    assert caught.value.headers == {"x-should-retry": "false"}
    health.disabled = frozenset()
    assert chosen(some) == {"a": 50, "b": 50}


def another(some: Roster, *tried: tuple[str, int, Lesson], now: float = 0.0) -> object:
    at = by_name(some)
    found = some.another([Tried(at[name], key, lesson) for name, key, lesson in tried], now, 0.0)
    return found and (found.standing.target.provider, found.key, found.same)


@pytest.mark.parametrize(
    ("tried", "found"),
    [
        ([("a", 0, BROKEN)], ("b", 0, False)),
        ([("a", 0, LIMITED)], ("b", 0, False)),
        ([("a", 0, LATE)], ("b", 0, False)),
        ([("b", 0, BROKEN)], ("a", 0, False)),
        ([("a", 0, Lesson())], None),
        ([("a", 0, BROKEN), ("b", 0, BROKEN)], ("a", 1, False)),
        ([("a", 0, LATE), ("b", 0, BROKEN)], ("b", 1, True)),
        ([("a", 0, LATE), ("b", 0, LATE)], None),
        ([("a", 0, LIMITED), ("b", 0, LATE)], ("a", 1, False)),
        ([("a", 1, LIMITED), ("b", 1, LIMITED)], ("a", 0, False)),
        (
            [("a", 0, BROKEN), ("b", 0, BROKEN), ("a", 1, BROKEN), ("b", 1, BROKEN)],
            ("b", 1, True),
        ),
        ([("a", 0, LIMITED), ("b", 0, LIMITED), ("a", 1, LIMITED), ("b", 1, LIMITED)], None),
    ],
)
def test_another_target_then_another_key_then_the_same(
    tried: Sequence[tuple[str, int, Lesson]], found: object
) -> None:
    """What failed is asked again only where it may do better, and nobody else is left."""
    some = roster(target("a"), target("b", priority=2), keys=2)
    assert another(some, *tried) == found


def test_another_key_of_the_same_target() -> None:
    """One that is limited is left for another at once; one that failed is left in peace first."""
    some = roster(target("a"), keys=2)
    assert another(some, ("a", 0, LIMITED)) == ("a", 1, False)
    assert another(some, ("a", 0, BROKEN)) == ("a", 1, True)


def test_nobody_who_is_out_is_asked_next() -> None:
    """A target whose breaker is open, or whose keys are all aside, is no way out."""
    some = roster(target("a"), target("b"), target("c"))
    at = by_name(some)
    open_breaker(at["b"])
    at["c"].set_aside(0, 9.0)
    assert another(some, ("a", 0, LATE)) is None
    assert another(some, ("a", 0, LATE), now=5.0) == ("b", 0, False)
    open_breaker(at["a"])
    assert another(some, ("a", 0, BROKEN)) is None


def test_the_availability_of_two_targets_at_one_provider() -> None:
    """They are one row of the metrics, so they are found together."""
    two = [Target("a", name, 1, 1, target("a").price) for name in ("x", "y")]
    some = roster(*two, target("b"))
    grouped = {name: [s.target.model for s in them] for name, them in some.by_provider.items()}
    assert grouped == {"a": ["x", "y"], "b": ["m"]}


@pytest.mark.parametrize("allowed", ["*", "gpt-4o"])
def test_a_model_by_its_alias(allowed: str) -> None:
    """A key that may use a model may use it by either name."""
    known = model(target("a"))
    models = {"gpt-4o": known, "gpt": known}
    assert find_model(models, "gpt", frozenset({allowed})) is known
    with pytest.raises(ModelNotFound):
        find_model(models, "gpt", frozenset({"o3"}))
