"""Which models a key may use, and which target serves."""

from __future__ import annotations

import pytest

from proxy.domain.errors import ModelNotFound
from proxy.domain.routing import Health, Model, Target, find_model
from proxy.domain.tokenizer import tokenizer_for
from proxy.domain.usage import FREE, Price


def target(name: str, weight: float = 1, priority: int = 1, price: Price = FREE) -> Target:
    return Target(name, "m", weight, priority, price)


def model(*targets: Target, name: str = "gpt-4o") -> Model:
    return Model(name, targets, 100, "max_tokens", True, False, tokenizer_for(""), lambda part: 1)


def choose_target(model: Model, draw: float) -> Target:
    """The one that is chosen while nothing is known of any."""
    keys = {target.provider: 1 for target in model.targets}
    return Health([model], keys).rosters[model.name].choose(0.0, draw).target


@pytest.mark.parametrize(
    ("targets", "draw", "chosen"),
    [
        ([target("a")], 0.0, "a"),
        ([target("a")], 0.999, "a"),
        ([target("a", 3), target("b", 1)], 0.0, "a"),
        ([target("a", 3), target("b", 1)], 0.7499, "a"),
        ([target("a", 3), target("b", 1)], 0.75, "b"),
        ([target("a", 3), target("b", 1)], 0.9999, "b"),
        ([target("a", 0), target("b", 1)], 0.0, "b"),
        ([target("a", 1), target("b", 0)], 0.9999999, "a"),
        ([target("a", 0), target("b", 0)], 0.5, "b"),
        ([target("a", 9, priority=2), target("b", 1, priority=1)], 0.0, "b"),
        ([target("a", 9, priority=2), target("b", 1, priority=1)], 0.99, "b"),
        ([target("a", 0.1), target("b", 0.2), target("c", 0.7)], 0.29, "b"),
        ([target("a", 0.1), target("b", 0.2), target("c", 0.7)], 0.31, "c"),
    ],
)
def test_by_weight_in_the_first_priority(targets: list[Target], draw: float, chosen: str) -> None:
    """The lowest priority serves, by weight; a weight of zero gets nothing."""
    assert choose_target(model(*targets), draw).provider == chosen


def test_weights_are_shares() -> None:
    """Over all draws each target gets its share."""
    shared = model(target("a", 1), target("b", 3))
    chosen = [choose_target(shared, draw / 1000).provider for draw in range(1000)]
    assert chosen.count("a") == 250


def test_the_dearest_price_is_reserved() -> None:
    """No target costs more than the price that is reserved, in any part."""
    mixed = model(
        target("a", price=Price(5, 1, 3, 9)), target("b", priority=2, price=Price(2, 8, 4, 1))
    )
    assert mixed.dearest == Price(5, 8, 4, 9)


@pytest.mark.parametrize("allowed", [{"*"}, {"gpt-4o"}, {"x", "*"}])
def test_a_model_that_may_be_used(allowed: set[str]) -> None:
    """A model is found where it is named or all are allowed."""
    known = model(target("a"))
    assert find_model({"gpt-4o": known}, "gpt-4o", frozenset(allowed)) is known


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("gpt-4o", set()),
        ("gpt-4o", {"gpt-4"}),
        ("gpt-5", {"*"}),
        ("gpt-5", {"gpt-5"}),
        ("*", {"*"}),
    ],
)
def test_no_model(name: str, allowed: set[str]) -> None:
    """What is not there and what is not allowed are the same 404."""
    with pytest.raises(ModelNotFound) as caught:
        find_model({"gpt-4o": model(target("a"))}, name, frozenset(allowed))
    error = caught.value
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert error.message == (
        f"The model '{name}' does not exist or this key may not use it. "
        "GET /v1/models lists those it may."
    )


def test_a_long_name_is_not_echoed_whole() -> None:
    """A refusal quotes no more than the start of a name."""
    with pytest.raises(ModelNotFound) as caught:
        find_model({}, "x" * 10_000, frozenset("*"))
    assert len(caught.value.message) < 300
