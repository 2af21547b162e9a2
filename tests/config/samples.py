"""A small configuration to vary, and the ways to read one in a test."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.config import Config, ConfigError, Problem, parse_config

FILE = "config/visiongate.yaml"

SMALL = """\
store: {url: embedded}
providers:
  openai: {base_url: https://api.openai.com/v1, api_key: sk-test}
models:
  gpt-4o:
    targets: [{provider: openai}]
"""


def read(text: str, env: Mapping[str, str] | None = None) -> Config:
    """The config of a text that is right."""
    return parse_config(text, FILE, env or {})


def problems(text: str, env: Mapping[str, str] | None = None) -> list[Problem]:
    """Everything that is wrong with a text."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE, env or {})
    return caught.value.problems


def found(text: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Everything that is wrong with a text, as path to message."""
    return {problem.path: problem.message for problem in problems(text, env)}
