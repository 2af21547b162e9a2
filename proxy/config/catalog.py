"""What clients are told of a model, beside what OpenAI's own list has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .schema import Config, Model

_PRICES: Final = ("input", "output", "cached_input", "cache_write")


def build_catalog(config: Config) -> dict[str, Mapping[str, Any]]:
    """The entries of GET /v1/models, by name and by alias.

    Each is OpenAI's (https://platform.openai.com/docs/api-reference/models/object), with
    `context_window` and `max_output` in tokens, `vision`, and `price` in USD per million tokens:
    the most that any target asks. What is not known is null.
    """
    named = {name: model for own, model in config.models.items() for name in (own, *model.aliases)}
    return {name: _entry(name, model) for name, model in named.items()}


def _entry(name: str, model: Model) -> Mapping[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": model.targets[0].provider,
        "context_window": model.context or None,
        "max_output": model.max_output,
        "vision": model.vision,
        "price": _price(model),
    }


def _price(model: Model) -> Mapping[str, float] | None:
    prices = [target.price for target in model.targets if target.price is not None]
    if len(prices) < len(model.targets):
        return None
    return {name: float(max(getattr(price, name) for price in prices)) for name in _PRICES}
