"""Counting tokens: exact where the vocabulary is known, a bound and a guess where not."""

from __future__ import annotations

import pytest
import toktok
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.tokenizer import LONGEST, bytes_bound, dearest, tokenizer_for

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
OTHERS = ["claude-sonnet-4-5", "llama", "gemini-2.5-pro", "", "my-gpt-4o"]


@pytest.mark.parametrize(("model", "text", "count"), COOKBOOK)
def test_known_vocabularies_are_exact(model: str, text: str, count: int) -> None:
    """A model of OpenAI's is counted with its own vocabulary."""
    tokenizer = tokenizer_for(model)
    assert tokenizer.bound([text]) == tokenizer.guess([text]) == count
    assert tokenizer.exact


@pytest.mark.parametrize("model", OTHERS)
def test_other_models_are_bounded_by_bytes(model: str) -> None:
    """An unknown model's text is at most one token a byte, and likely what OpenAI's newest is."""
    tokenizer = tokenizer_for(model)
    assert tokenizer.bound(["héllo", "", "x"]) == 7
    assert tokenizer.guess([COOKBOOK[0][1]]) == 6
    assert not tokenizer.exact


@given(st.lists(st.text(max_size=40), max_size=4), st.sampled_from(("gpt-4", "gpt-4o", "llama")))
def test_bytes_are_a_bound(texts: list[str], model: str) -> None:
    """No text has more tokens than bytes; several count as each of them does."""
    count = tokenizer_for(model).guess
    assert count(texts) == sum(count([text]) for text in texts)
    assert count(texts) <= bytes_bound(texts) == len("".join(texts).encode())


@given(st.lists(st.text(max_size=40), max_size=4))
def test_counts_are_the_tokenizers(texts: list[str]) -> None:
    """Texts that are counted one by one, or remembered, are as many tokens as in a batch."""
    assert tokenizer_for("gpt-4o").bound(texts) == sum(toktok.batch_count(texts, "o200k_base"))


@pytest.mark.parametrize("text", ["word ", "é", "-", "龘"])
@pytest.mark.parametrize("model", ["gpt-4", "gpt-4o"])
def test_what_takes_too_long_is_bounded(model: str, text: str) -> None:
    """Very long texts, and long ones of the slowest kind, are bounded by their bytes."""
    tokenizer, long = tokenizer_for(model), text * (LONGEST // len(text) + 1)
    size = len(long.encode())
    assert tokenizer.bound([long]) == size
    assert tokenizer.guess([long]) == -(-size // 4)
    shorter = long[: LONGEST - 1]
    assert (tokenizer.bound([shorter]) == len(shorter.encode())) == (text == "-")


def test_an_honest_rule_is_counted() -> None:
    """A text with some long rules in it is counted exactly."""
    text = ("=" * 200 + "\nA chapter, which has some words in it.\n") * 100
    assert tokenizer_for("gpt-4o").bound([text]) < len(text) / 10


def test_the_dearest_of_several() -> None:
    """Of several vocabularies the most counts, and is exact only where each is."""
    texts = ["お誕生日おめでとう"]
    openai = dearest({tokenizer_for("gpt-4"), tokenizer_for("gpt-4o")})
    assert openai.bound(texts) == openai.guess(texts) == 9
    assert openai.exact
    mixed = dearest({tokenizer_for("gpt-4o"), tokenizer_for("llama")})
    assert (mixed.bound(texts), mixed.guess(texts), mixed.exact) == (27, 8, False)


def test_special_tokens_in_text_are_text() -> None:
    """A user who writes a special token's name is counted for its characters."""
    assert tokenizer_for("gpt-4o").bound(["<|endoftext|>"]) > 1


def test_nothing_is_nothing() -> None:
    """No texts, no tokens."""
    assert tokenizer_for("gpt-4o").bound([]) == tokenizer_for("llama").guess([]) == 0
