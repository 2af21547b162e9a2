"""What is known of well-known models."""

from __future__ import annotations

import pytest

from .samples import SMALL, read


@pytest.mark.parametrize(
    ("name", "param", "max_output", "vision"),
    [
        ("gpt-4-vision-preview", "max_tokens", 4096, True),
        ("gpt-4o-mini-2024-07-18", "max_tokens", 16384, True),
        ("gpt-4o-2024-05-13", "max_tokens", 4096, True),
        ("gpt-5-mini", "max_completion_tokens", 128_000, True),
        ("claude-sonnet-4-5-20250929", "max_tokens", 64_000, True),
        ("claude-opus-5-5", "max_tokens", 128_000, True),
        ("o3-mini", "max_completion_tokens", 100_000, False),
    ],
)
def test_known_models(name: str, param: str, max_output: int, vision: bool) -> None:
    """A well-known name, with or without a date, brings what is not written."""
    model = read(SMALL.replace("gpt-4o", name)).models[name]
    assert (model.output_param, model.max_output, model.vision) == (param, max_output, vision)
