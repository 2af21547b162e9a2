"""Files as they come from a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import ConfigError, load_config

from .samples import SMALL, read


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory and bytes that are not UTF-8 are problems like any other."""
    (tmp_path / "bytes.yaml").write_bytes(b"store:\n  url: \xff\n")
    told = {}
    for name in ("missing.yaml", ".", "bytes.yaml", "nul\0.yaml"):
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / name, {})
        (problem,) = caught.value.problems
        told[name] = (problem.line, problem.message)
    assert told == {
        "missing.yaml": (None, "cannot be read: No such file or directory"),
        ".": (None, "cannot be read: Is a directory"),
        "bytes.yaml": (2, "is not UTF-8 text"),
        "nul\0.yaml": (None, "cannot be read: not a path"),
    }


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, as some editors write it, does no harm."""
    path = tmp_path / "bom.yaml"
    path.write_text(SMALL, "utf-8-sig")
    assert load_config(path, {}).fingerprint == read(SMALL).fingerprint
