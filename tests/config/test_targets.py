"""What a config may say of targets, retries and names."""

from __future__ import annotations

import pytest

from .samples import SMALL, found, read


def named(one: str, other: str) -> str:
    """Two models with these aliases."""
    more = f"  gpt-4o-mini: {{targets: [{{provider: openai}}], aliases: [{other}]}}\n"
    return f"{SMALL}    aliases: [{one}]\n{more}"


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (
            "gpt-4o-mini",
            "",
            {"models.gpt-4o.aliases[0]": "'gpt-4o-mini' is model 'gpt-4o-mini' already"},
        ),
        ("gpt-4o", "", {"models.gpt-4o.aliases[0]": "'gpt-4o' is model 'gpt-4o' already"}),
        ("a", "a", {"models.gpt-4o-mini.aliases[0]": "'a' is an alias of 'gpt-4o' already"}),
        ("a, a", "", {"models.gpt-4o.aliases[1]": "'a' is an alias of 'gpt-4o' already"}),
    ],
)
def test_a_name_means_one_model(one: str, other: str, told: dict[str, str]) -> None:
    """An alias that is taken is told where it is written the second time."""
    assert found(named(one, other)) == told


def test_aliases() -> None:
    """Several names of one model, and of another."""
    models = read(named("a, b", "c")).models
    assert [models[name].aliases for name in models] == [("a", "b"), ("c",)]


@pytest.mark.parametrize("retries", ["-1", "6", "many"])
def test_retries_are_bounded(retries: str) -> None:
    """A request has up to six attempts."""
    assert set(found(SMALL + f"    retries: {retries}")) == {"models.gpt-4o.retries"}


@pytest.mark.parametrize(("key", "value"), [("failures", "-1"), ("pause", "0s"), ("pauses", "1s")])
def test_a_breakers_words(key: str, value: str) -> None:
    """What a breaker cannot be is told by its name."""
    text = SMALL.replace("api_key: sk-test", f"breaker: {{{key}: {value}}}")
    assert set(found(text)) == {f"providers.openai.breaker.{key}"}


def test_a_plan_names_the_model_itself() -> None:
    """An alias is a client's word: policy has one name for each model."""
    text = SMALL + "    aliases: [latest]\nplans: {gold: {models: [latest]}}"
    assert set(found(text)) == {"plans.gold.models[0]"}
