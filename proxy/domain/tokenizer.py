"""How many tokens a text is: exact for OpenAI's vocabularies; a bound and a guess for the rest.

No byte-level vocabulary makes more tokens of a text than it has bytes in UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import toktok

#: Counts the tokens of some texts, all together.
Count = Callable[[Sequence[str]], int]

#: Characters up to which a text is counted exactly: the worst of them cost 0.2 s.
LONGEST: Final = 1024 * 1024

#: What an exact count takes a hundred times as long for as for words: long runs of these,
#: which the vocabularies have long tokens of.
_RUN: Final = 128
_RUNS: Final = tuple(character * _RUN for character in "-=*#/")
_MOST_RUNS: Final = 512

_PIECE: Final = 64 * 1024

#: Bytes of UTF-8 in a token, where nothing better is known.
_USUAL: Final = 4

#: Model names by prefix, the longest first. Source: OpenAI's cookbook and model pages.
_VOCABULARIES: Final = (
    ("gpt-3.5", "cl100k_base"),
    ("gpt-35", "cl100k_base"),  # as Azure writes it
    ("gpt-4-", "cl100k_base"),
    ("gpt-4.", "o200k_base"),
    ("gpt-4o", "o200k_base"),
    ("gpt-5", "o200k_base"),
    ("chatgpt-4o", "o200k_base"),
    ("o1", "o200k_base"),
    ("o3", "o200k_base"),
    ("o4", "o200k_base"),
)


#: From 264 (Haiku 3.5) to 804 (Opus 4.7, which has to call one); of newer models it is not told.
#: Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview (2026-11)
_CLAUDES_UNSEEN: Final = 1024


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A model's tokens: `bound` is never below what they are, to reserve by; `guess` is the
    likeliest, to charge by. `exact`: the guess is no guess. `unseen`: the most tokens that the
    vendor adds to a prompt by which the model is to use tools, or to answer by a schema.
    """

    bound: Count
    guess: Count
    exact: bool
    unseen: int = 0


def tokenizer_for(model: str) -> Tokenizer:
    """The tokenizer of a model, by the name its provider gives it."""
    if model == "gpt-4":
        return _exact("cl100k_base")
    for prefix, vocabulary in _VOCABULARIES:
        if model.startswith(prefix):
            return _exact(vocabulary)
    return _claudes() if "claude" in model.lower() else _unknown()


def dearest(tokenizers: Collection[Tokenizer]) -> Tokenizer:
    """The most tokens that any of them makes of a text."""
    first, *others = tokenizers
    if not others:
        return first
    return Tokenizer(
        bound=lambda texts: max(each.bound(texts) for each in tokenizers),
        guess=lambda texts: max(each.guess(texts) for each in tokenizers),
        exact=all(each.exact for each in tokenizers),
        unseen=max(each.unseen for each in tokenizers),
    )


def bytes_bound(texts: Sequence[str]) -> int:
    """One token a byte: the bound where the vocabulary is not known."""
    return sum(len(text) if text.isascii() else _encoded(text) for text in texts)


def _encoded(text: str) -> int:
    # In pieces, between which other threads run.
    return sum(len(text[i : i + _PIECE].encode()) for i in range(0, len(text), _PIECE))


def _bytes_guess(texts: Sequence[str]) -> int:
    return -(-bytes_bound(texts) // _USUAL)


@cache
def _exact(vocabulary: str) -> Tokenizer:
    return Tokenizer(_counting(vocabulary, bytes_bound), _counting(vocabulary, _bytes_guess), True)


@cache
def _unknown() -> Tokenizer:
    # Other vocabularies of the day are about as large as this one.
    return Tokenizer(bytes_bound, _counting("o200k_base", _bytes_guess), False)


@cache
def _claudes() -> Tokenizer:
    return replace(_unknown(), unseen=_CLAUDES_UNSEEN)


def _runs(texts: Sequence[str]) -> int:
    return sum(text.count(run) for text in texts for run in _RUNS)


def _counting(vocabulary: str, otherwise: Count) -> Count:
    """The exact count, and `otherwise` that of texts which would take too long."""

    # Not the package's own functions: one looks up the machine's cores at every call, for 35 µs,
    # the other the vocabulary.
    single: Callable[[str], int] = toktok._encoding(vocabulary).count

    def count(texts: Sequence[str]) -> int:
        size = sum(map(len, texts))
        if size > LONGEST or (size > _RUN * _MOST_RUNS and _runs(texts) > _MOST_RUNS):
            return otherwise(texts)
        return sum(map(single, texts))

    return count
