"""The suite's own Valkey."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.processes import client, servers
from tests.valkey import run_valkey


def test_run_valkey(tmp_path: Path) -> None:
    """The suite's own Valkey is empty, keeps nothing on disk, and takes more settings."""
    with run_valkey(tmp_path, "--maxmemory", "5mb") as url, client(url) as valkey:
        assert valkey.dbsize() == 0
        assert valkey.config_get("appendonly", "maxmemory") == {
            "appendonly": "no",
            "maxmemory": str(5 << 20),
        }
        assert servers(tmp_path.resolve()) == [valkey.info("server")["process_id"]]
    assert servers(tmp_path.resolve()) == []


def test_run_valkey_fails(tmp_path: Path) -> None:
    """A setting that Valkey refuses is told with its own words."""
    with (
        pytest.raises(RuntimeError, match=r"(?s)did not start.*nonsense"),
        run_valkey(tmp_path, "--nonsense", "1"),
    ):
        pass
