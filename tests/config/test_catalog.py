"""What clients are told of models."""

from __future__ import annotations

import pytest

from proxy.config import build_catalog

from .samples import SMALL, found, read

TWO = """\
    price: {input: 2.50, output: 10.00}
  mine:
    aliases: [ours]
    max_output: 1000
    vision: false
    targets:
      - {provider: openai, price: {input: 1, output: 9, cached_input: 0.10}}
      - {provider: openai, model: other, price: {input: 0.15, output: 9.5, cache_write: 3}}
"""


def test_of_a_well_known_name() -> None:
    """Of a well-known model all is told, the price as it is written."""
    price = {"input": 2.5, "output": 10.0, "cached_input": 2.5, "cache_write": 0.0}
    assert build_catalog(read(SMALL + TWO))["gpt-4o"] == {
        "id": "gpt-4o",
        "object": "model",
        "created": 0,
        "owned_by": "openai",
        "context_window": 128_000,
        "max_output": 16_384,
        "vision": True,
        "price": price,
    }


def test_of_several_targets() -> None:
    """The price is one that no target exceeds; an alias has an entry of its own."""
    catalog = build_catalog(read(SMALL + TWO))
    price = {"input": 1.0, "output": 9.5, "cached_input": 0.15, "cache_write": 3.0}
    assert catalog["mine"]["price"] == price
    assert (catalog["mine"]["context_window"], catalog["mine"]["vision"]) == (None, False)
    assert catalog["ours"] == {**catalog["mine"], "id": "ours"}
    assert list(catalog) == ["gpt-4o", "mine", "ours"]


def test_no_price() -> None:
    """Where one target has no price, none is told."""
    text = SMALL.replace("[{provider: openai}]", "[{provider: openai}, {provider: openai}]")
    assert build_catalog(read(text))["gpt-4o"]["price"] is None
    half = text.replace("[{provider: openai}", "[{provider: openai, price: {input: 1, output: 1}}")
    assert build_catalog(read(half))["gpt-4o"]["price"] is None


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("gpt-4o-mini-2024-07-18", 128_000),
        ("gpt-4.1-mini", 1_047_576),
        ("gpt-5", 400_000),
        ("o3-mini", 200_000),
        ("gpt-3.5-turbo", 16_385),
    ],
)
def test_known_contexts(name: str, context: int) -> None:
    """A well-known name brings its context window."""
    assert read(SMALL.replace("gpt-4o", name)).models[name].context == context


def test_a_context_of_its_own() -> None:
    """What is written stands, with k and M; it cannot be less than one answer."""
    assert read(SMALL + "    context: 64k\n").models["gpt-4o"].context == 64_000
    assert found(SMALL + "    context: 1000\n") == {
        "models.gpt-4o.context": "is less than max_output, 16384"
    }
    assert read(SMALL + "    context: 1000\n    max_output: 1000\n")
