"""The example that is delivered works as it stands, and says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config import load_config, parse_config

from .samples import FILE, found
from .test_defaults import DEFAULTS

EXAMPLE = Path(__file__).parents[2] / FILE
ENV = {"OPENAI_API_KEY": "sk-test"}


def test_needs_one_variable() -> None:
    """The example loads with OPENAI_API_KEY set and nothing else."""
    config = load_config(EXAMPLE, ENV)
    assert set(config.models) == {"gpt-4-vision-preview", "gpt-4o", "gpt-4o-mini"}
    assert config.store.embedded
    assert config.providers["openai"].secrets == ("sk-test",)
    assert all(model.price for model in config.models.values())


def test_names_the_variable() -> None:
    """Without it, that is the only problem."""
    told = found(EXAMPLE.read_text("utf-8"))
    assert set(told) == {"providers.openai.api_keys[0]"}
    assert "OPENAI_API_KEY is not set" in told["providers.openai.api_keys[0]"]


def test_commented_options_are_the_defaults() -> None:
    """With every commented option switched on, the example means exactly the same."""
    text = EXAMPLE.read_text("utf-8")
    switched_on, count = re.subn(r"(?m)^( *)#(?=[a-z_]+:)", r"\1", text)
    assert count > 50
    assert parse_config(switched_on, FILE, ENV) == load_config(EXAMPLE, ENV)
    assert parse_config(switched_on, FILE, ENV).fingerprint == load_config(EXAMPLE, ENV).fingerprint


def test_mentions_every_option() -> None:
    """No option of the contract is missing from the example."""
    text = EXAMPLE.read_text("utf-8")
    unmentioned = {
        path for path in DEFAULTS if not re.search(rf"(?m)\b{path.split('.')[-1]}:", text)
    }
    assert unmentioned == set()
