"""A Config's rules as the request path wants them."""

from __future__ import annotations

import pytest

from proxy.domain.chat import ImagePart
from proxy.domain.routing import Model
from proxy.rules import build_models
from tests.gateway import make_config


def build(name: str, *served: str) -> Model:
    """A model of that name, served as each of the others."""
    targets = [{"provider": "openai", "model": model} for model in served]
    price = {"input": 1, "output": 1}
    config = make_config(
        "unix:///nowhere.sock",
        "http://127.0.0.1:9/v1",
        models={name: {"targets": targets, "price": price, "max_output": 1000}},
    )
    return build_models(config)[name]


@pytest.mark.parametrize(
    ("served", "hidden"),
    [
        ("gpt-4o", False),
        ("gpt-5", True),
        ("o3", True),
        ("openai/gpt-5-mini", True),
        ("gemini-2.5-pro", True),
        ("gemini-2.0-flash", False),
        ("deepseek-reasoner", True),
        ("llava:13b", False),
    ],
)
def test_who_thinks_in_secret(served: str, hidden: bool) -> None:
    """A model that thinks before it answers is known, whatever the gateway calls it."""
    assert build(served, served).hidden_output is hidden
    assert build("smart", served).hidden_output is hidden


def test_an_alias_is_priced_by_what_serves_it() -> None:
    """A name of ours has the image price and the tokenizer of the dearest of its targets."""
    model = build("fast", "gpt-4o", "gpt-4o-mini")
    part = ImagePart(0, 0, "data:", "high", width=512, height=512)
    assert model.image_cost(part) == 8500  # gpt-4o-mini's; gpt-4o's is 255
    assert model.tokenizer.bound(["hello world"]) == 2
