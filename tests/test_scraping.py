"""What several workers share of their metrics, and what is left of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from proxy import scraping


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_named_keys_are_the_first(tmp_path: Path) -> None:
    """Workers that meet keys in turn name the same ones: the first so many that any met."""
    one, two = (scraping._Named(tmp_path / "named", 3) for _ in range(2))
    met = [(one, "a"), (two, "b"), (one, "c"), (two, "d"), (two, "a"), (one, "b"), (one, "d")]
    assert [named(key) for named, key in met] == [True, True, True, False, True, True, False]


def test_fewer_keys_may_be_named_later(tmp_path: Path) -> None:
    """Where a new configuration names fewer keys, they are the first of those of before."""
    before = scraping._Named(tmp_path / "named", 3)
    assert all(map(before, "abc"))
    later = scraping._Named(tmp_path / "named", 2)
    assert [*map(later, "cdab")] == [False, False, True, True]


def test_a_full_disk_hides_nobody(tmp_path: Path) -> None:
    """Where the file cannot be written, a worker names the first keys that it meets itself."""
    named = scraping._Named(tmp_path / "nowhere" / "named", 1)
    assert [*map(named, "aba")] == [True, False, True]


def test_what_a_killed_master_left_is_removed(temporary: Path) -> None:
    """The folder of a master that is gone goes with the next start, that of one that lives stays,
    and one's own is removed at the end.
    """
    dead, foreign = temporary / "visiongate-dead", temporary / "visiongate-cat.png"
    dead.mkdir()
    (dead / "lock").touch()
    foreign.touch()
    with scraping.folder() as first, scraping.folder() as second:
        assert first.exists()
        assert second.exists()
        assert not dead.exists()
    assert os.listdir(temporary) == [foreign.name]
