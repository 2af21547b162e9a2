"""How many tokens a text is: exact for OpenAI's vocabularies, a safe bound for the rest.

No byte-level vocabulary makes more tokens of a text than it has bytes in UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import toktok

#: Counts the tokens of some texts, all together.
Tokenizer = Callable[[Sequence[str]], int]

#: Model names by prefix, the longest first. Source: OpenAI's cookbook and model pages.
_VOCABULARIES: Final = (
    ("gpt-3.5", "cl100k_base"),
    ("gpt-4-", "cl100k_base"),
    ("gpt-4.", "o200k_base"),
    ("gpt-4o", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
)


def tokenizer_for(model: str) -> Tokenizer:
    """The tokenizer of a model, by the name its provider gives it."""
    if model == "gpt-4":
        return _exact("cl100k_base")
    for prefix, vocabulary in _VOCABULARIES:
        if model.startswith(prefix):
            return _exact(vocabulary)
    return bytes_bound


def bytes_bound(texts: Sequence[str]) -> int:
    """One token a byte: the bound where the vocabulary is not known."""
    return sum(len(text.encode()) for text in texts)


@cache
def _exact(vocabulary: str) -> Tokenizer:
    def count(texts: Sequence[str]) -> int:
        counts: list[int] = toktok.batch_count(texts, vocabulary, threads=1)
        return sum(counts)

    return count
