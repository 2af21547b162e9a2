"""Counting tokens: exact where the vocabulary is known, a bound where not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.tokenizer import bytes_bound, tokenizer_for

# Counts as OpenAI's cookbook prints them, for cl100k_base and o200k_base.
COOKBOOK = [
    ("gpt-4", "antidisestablishmentarianism", 6),
    ("gpt-4o", "antidisestablishmentarianism", 6),
    ("gpt-3.5-turbo", "2 + 2 = 4", 7),
    ("gpt-4o", "2 + 2 = 4", 7),
    ("gpt-4-turbo", "お誕生日おめでとう", 9),
    ("gpt-4o", "お誕生日おめでとう", 8),
    ("gpt-4-vision-preview", "お誕生日おめでとう", 9),
    ("gpt-4.1-mini", "お誕生日おめでとう", 8),
    ("o3-mini", "お誕生日おめでとう", 8),
    ("gpt-5.2", "お誕生日おめでとう", 8),
]


@pytest.mark.parametrize(("model", "text", "count"), COOKBOOK)
def test_known_vocabularies_are_exact(model: str, text: str, count: int) -> None:
    """A model of OpenAI's is counted with its own vocabulary."""
    assert tokenizer_for(model)([text]) == count


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "llama", "gemini-2.5-pro", "", "my-gpt-4o"])
def test_other_models_are_bounded_by_bytes(model: str) -> None:
    """An unknown model's text is one token a byte."""
    assert tokenizer_for(model)(["héllo", "", "x"]) == 7


@given(st.lists(st.text(max_size=40), max_size=4), st.sampled_from(("gpt-4", "gpt-4o")))
def test_bytes_are_a_bound(texts: list[str], model: str) -> None:
    """No text has more tokens than bytes; several count as each of them does."""
    count = tokenizer_for(model)
    assert count(texts) == sum(count([text]) for text in texts)
    assert count(texts) <= bytes_bound(texts)


def test_special_tokens_in_text_are_text() -> None:
    """A user who writes a special token's name is counted for its characters."""
    assert tokenizer_for("gpt-4o")(["<|endoftext|>"]) > 1


def test_nothing_is_nothing() -> None:
    """No texts, no tokens."""
    assert tokenizer_for("gpt-4o")([]) == tokenizer_for("llama")([]) == 0
