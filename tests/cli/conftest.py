"""Commands as they are: a configuration in a file, a real Valkey, `main` with arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Visiongate, write_config


@pytest.fixture
def vg(
    tmp_path: Path,
    store_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Visiongate:
    """The command line with a configuration whose store is empty."""
    monkeypatch.delenv("VISIONGATE_CONFIG", raising=False)
    monkeypatch.delenv("VISIONGATE_KEY_PEPPER", raising=False)
    monkeypatch.setenv("TEST_PROVIDER_KEY", "sk-test")
    return Visiongate(write_config(tmp_path / "visiongate.yaml", store_url), store_url, capsys)


@pytest.fixture
def full(vg: Visiongate) -> Visiongate:
    """Two teams with keys in every state."""
    vg.done(
        *("team", "create", "vision", "--plan", "standard", "--limit", "1,500.25 usd/month"),
        *("--limit", "100k tokens/day on gpt-4o", "--limit", "20 concurrent"),
        *("--label", "cost-center=42", "--label", "note=null", "--label", "price=${HOME} $$ é"),
    )
    vg.done("team", "grant", "vision", "20 usd/month")
    vg.secret("vision", "ci", "--limit", "1M tokens/day", "--expires", "90d", "--plan", "default")
    vg.done("key", "rotate", "ci")
    vg.secret("vision", "old")
    vg.done("key", "revoke", "old")
    vg.secret("vision", "held")
    vg.done("key", "set", "held", "--pause")
    vg.done("team", "create", "docs")
    vg.done("team", "pause", "docs")
    return vg
