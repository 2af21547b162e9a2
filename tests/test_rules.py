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
        ("claude-opus-5", True),
        ("claude-sonnet-5-5", True),
        ("anthropic/claude-haiku-5.5", True),
        ("anthropic.claude-fable-5-1", True),
        ("claude-mythos-preview", True),
        ("claude-opus-10", True),
        ("claude-opus-4-8", False),
        ("claude-sonnet-4-5", False),
        ("claude-opus-4-20250514", False),
        ("claude-3-5-haiku-20241022", False),
        ("claude-3-opus", False),
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


def deployed(name: str, deployment: str, **more: object) -> Model:
    """A model of that name behind a deployment of Azure's."""
    target = {"provider": "azure", "model": deployment}
    price = {"input": 1, "output": 1}
    config = make_config(
        "unix:///nowhere.sock",
        "http://127.0.0.1:9/v1",
        providers={"azure": {"kind": "azure", "base_url": "https://r.openai.azure.com"}},
        models={name: {"targets": [target], "price": price, "max_output": 1000, **more}},
    )
    return build_models(config)[name]


@pytest.mark.parametrize(
    ("name", "deployment", "more", "tokens"),
    [
        ("gpt-4o-mini", "our-vision-eu", {}, 8500),
        ("gpt-4o-mini", "gpt-4o", {}, 255),
        ("fast", "our-vision-eu", {"image_tokens": "gpt-4o"}, 255),
        ("fast", "gpt-4o-2024-11-20", {}, 255),
    ],
)
def test_a_deployments_name_may_tell_nothing(
    name: str, deployment: str, more: dict[str, str], tokens: int
) -> None:
    """A deployment has the tokens of the model that its name tells, or else ours."""
    model = deployed(name, deployment, **more)
    part = ImagePart(0, 0, "data:", "high", width=512, height=512)
    assert model.image_cost(part) == tokens
    assert model.tokenizer.exact
    assert model.tokenizer.bound(["hello world"]) == 2


def test_a_deployment_of_a_model_that_thinks() -> None:
    """What a deployment's name hides, ours tells: that part of the output is never shown."""
    assert deployed("o3", "team-a", output_param="max_tokens").hidden_output
    assert not deployed("gpt-4o", "team-a").hidden_output


def test_another_kinds_name_is_the_models() -> None:
    """A model elsewhere is what its name there says, though we call it as one that is known."""
    assert not build("gpt-4o", "llava:13b").tokenizer.exact


@pytest.mark.parametrize(
    ("base_url", "more", "url"),
    [
        ("https://api.openai.com/v1/", {}, "https://api.openai.com/v1/chat/completions"),
        (
            "https://r.openai.azure.com",
            {"kind": "azure"},
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "https://r.openai.azure.com/openai/v1/",
            {"kind": "azure"},
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        (
            "https://apim.example/ai",
            {"kind": "azure", "api_version": "2024-10-21"},
            "https://apim.example/ai/openai/deployments/a%20b%2Fc/chat/completions"
            "?api-version=2024-10-21",
        ),
    ],
)
def test_where_requests_go(base_url: str, more: dict[str, str], url: str) -> None:
    """A target has its address from the start: the base URL's, the kind's and the model's."""
    config = make_config(
        "unix:///nowhere.sock",
        base_url,
        providers={"openai": more},
        models={"gpt-4o": {"targets": [{"provider": "openai", "model": "a b/c"}]}},
    )
    assert [target.url for target in build_models(config)["gpt-4o"].targets] == [url]


def test_whose_image_limits_bind() -> None:
    """OpenAI's limits on images bind at OpenAI; those of a compatible server are not known."""
    config = make_config("unix:///nowhere.sock", "https://api.openai.com/v1")
    assert build_models(config)["gpt-4o"].kinds == {"openai"}
    config = make_config("unix:///nowhere.sock", "http://127.0.0.1:8000/v1")
    assert build_models(config)["gpt-4o"].kinds == frozenset()
    assert deployed("gpt-4o", "d").kinds == {"azure"}
