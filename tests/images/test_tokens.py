"""Tokens of images, by model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.images.tokens import FORMULAS, UNKNOWN, formula_for, image_tokens, largest
from tests.images.samples import load_cases

VECTORS = load_cases("image_tokens.yaml")["vectors"]
DETAILS = ("low", "auto", "high", "original", None)
#: A model that each family's vectors stand for.
STANDS_FOR = {
    "claude (standard tier)": "claude-sonnet-4-5-20250929",
    "claude (high-res tier)": "claude-opus-4-7",
    "gemini-2.0/2.5": "gemini-2.5-flash",
}


@pytest.mark.parametrize(
    "vector",
    [v for v in VECTORS if v["confidence"] != "superseded"],
    ids=lambda v: f"{v['model']}-{v['width']}x{v['height']}-{v['detail']}",
)
def test_vector(vector: dict[str, Any]) -> None:
    """Every vector that a vendor has not taken back is met to the token."""
    formula = formula_for(STANDS_FOR.get(vector["model"], vector["model"]))
    tokens = image_tokens(formula, vector["width"], vector["height"], vector["detail"])
    assert tokens == vector["tokens"]


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        ("gpt-5.5", 4000, 3000, "low", 231),
        ("gpt-5.5", 4000, 3000, None, 11868),
        ("gpt-5.6", 9000, 9000, "low", 308),
        ("gpt-4o", 1024, 1024, None, 765),
        ("gpt-4o", 512, 512, "original", 255),
        ("gpt-4o-mini", 2048, 4096, "auto", 36835),
        ("gemini-2.5-pro", 384, 384, None, 258),
        ("gemini-3-pro", 10, 10, None, 1120),
        ("gemini-3-pro", 10, 10, "low", 280),
    ],
)
def test_known(model: str, width: int, height: int, detail: str | None, tokens: int) -> None:
    """What is not among the vectors follows the vendors' own description."""
    assert image_tokens(formula_for(model), width, height, detail) == tokens


SIDES = st.integers(1, 10_000) | st.sampled_from([1, 32, 257, 384, 385, 386, 768, 2048, 3072])


@pytest.mark.parametrize("detail", DETAILS)
@given(width=SIDES, height=SIDES)
def test_largest_is_a_bound(width: int, height: int, detail: str | None) -> None:
    """No size costs more than `largest`, and none costs less than one token."""
    for formula in {*FORMULAS.values(), UNKNOWN}:
        assert 1 <= image_tokens(formula, width, height, detail) <= largest(formula, detail)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.4", "claude-3-5", "gemini-2.5", "o4-mini"])
def test_largest_on_a_grid(model: str) -> None:
    """The bound holds on a grid of sizes, turned either way, and is nearly reached."""
    formula = formula_for(model)
    sides = [*range(1, 700, 37), 384, 385, 386, 768, 800, 1536, 2000, 2048, 3072, 4096, 8000]
    seen = {(w, h): image_tokens(formula, w, h, "high") for w in sides for h in sides}
    top = largest(formula, "high")
    assert max(seen.values()) <= top
    assert max(seen.values()) > 0.95 * top
    # Both ways round, but for the squares that a size just over a budget is rounded to.
    assert all(abs(seen[w, h] - seen[h, w]) <= 0.03 * top for w, h in seen)


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "gpt-4o-mini"),
        ("chatgpt-4o-latest", "gpt-4o"),
        ("gpt-4-turbo-2024-04-09", "gpt-4"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("gpt-5.4-mini", "gpt-5.4"),
        ("gpt-5.9", "gpt-5.6"),
        ("o4-mini-2025-04-16", "o4-mini"),
        ("openai/GPT-4o", "gpt-4o"),
        ("claude-opus-4-20250514", "claude-3"),
        ("claude-opus-4-10", "claude"),
        ("anthropic/claude-3-5-sonnet", "claude-3"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3"),
        ("models/gemini-2.5-flash-lite", "gemini-2.5"),
        ("gemini-3.5-flash", "gemini-3"),
    ],
)
def test_formula_for(model: str, row: str) -> None:
    """A name belongs to the longest row that begins it, at a boundary of the name."""
    assert formula_for(model) == FORMULAS[row]


@pytest.mark.parametrize("model", ["llava", "qwen2.5-vl", "gpt4o", "o", "-", "", "pixtral-12b"])
def test_unknown(model: str) -> None:
    """A model that no row fits has the flat rate."""
    assert formula_for(model) == UNKNOWN
