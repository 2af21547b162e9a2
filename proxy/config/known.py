"""What is known of well-known models, so that a config need not say it.

Source: https://platform.openai.com/docs/models and
https://platform.claude.com/docs/en/about-claude/models/overview (autumn 2026). A name with a date
is the model without it, unless it has a row of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

OutputParam = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """`max_output` is the most tokens one answer can have; `context` those of prompt and answer
    together, 0 where that is not known; `vision`: takes images.
    """

    max_output: int
    context: int = 0
    vision: bool = True


_MODELS: Final = {
    "gpt-4-vision-preview": KnownModel(4_096, 128_000),
    "gpt-4-1106-vision-preview": KnownModel(4_096, 128_000),
    "gpt-4-turbo": KnownModel(4_096, 128_000),
    "gpt-4o": KnownModel(16_384, 128_000),
    "gpt-4o-2024-05-13": KnownModel(4_096, 128_000),
    "gpt-4o-mini": KnownModel(16_384, 128_000),
    "chatgpt-4o-latest": KnownModel(16_384, 128_000),
    "gpt-4.1": KnownModel(32_768, 1_047_576),
    "gpt-4.1-mini": KnownModel(32_768, 1_047_576),
    "gpt-4.1-nano": KnownModel(32_768, 1_047_576),
    "gpt-5": KnownModel(128_000, 400_000),
    "gpt-5-mini": KnownModel(128_000, 400_000),
    "gpt-5-nano": KnownModel(128_000, 400_000),
    "gpt-5-chat-latest": KnownModel(16_384, 128_000),
    "gpt-5.1": KnownModel(128_000, 400_000),
    "gpt-5.2": KnownModel(128_000, 400_000),
    "gpt-5.4": KnownModel(128_000, 1_050_000),
    "gpt-5.4-mini": KnownModel(128_000, 400_000),
    "o1": KnownModel(100_000, 200_000),
    "o3": KnownModel(100_000, 200_000),
    "o3-mini": KnownModel(100_000, 200_000, vision=False),
    "o4-mini": KnownModel(100_000, 200_000),
    "gpt-4": KnownModel(8_192, 8_192, vision=False),
    "gpt-3.5-turbo": KnownModel(4_096, 16_385, vision=False),
    "claude-fable-5": KnownModel(128_000, 1_000_000),
    "claude-fable-5-1": KnownModel(128_000),
    "claude-opus-5-5": KnownModel(128_000),
    "claude-opus-5": KnownModel(128_000, 1_000_000),
    "claude-opus-4-8": KnownModel(128_000, 1_000_000),
    "claude-opus-4-7": KnownModel(128_000, 1_000_000),
    "claude-opus-4-6": KnownModel(128_000, 1_000_000),
    "claude-opus-4-5": KnownModel(64_000, 200_000),
    "claude-sonnet-5-5": KnownModel(128_000),
    "claude-sonnet-5": KnownModel(128_000, 1_000_000),
    "claude-sonnet-4-6": KnownModel(128_000, 1_000_000),
    "claude-sonnet-4-5": KnownModel(64_000, 200_000),
    "claude-haiku-5-5": KnownModel(128_000),
    "claude-haiku-4-5": KnownModel(64_000, 200_000),
}
_DATE: Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$", re.ASCII)
_REASONING: Final = re.compile(r"o\d|gpt-5", re.ASCII)


def known_model(name: str) -> KnownModel | None:
    """What is known of the model of this name, None if nothing is."""
    return _MODELS.get(name) or _MODELS.get(_DATE.sub("", name))


def output_param(name: str) -> OutputParam:
    """The parameter that caps the output: o* and gpt-5* refuse `max_tokens`."""
    return "max_completion_tokens" if _REASONING.match(name) else "max_tokens"
