"""A store that went backwards is found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.store.marks import Marks

Told = list[tuple[str, int]]


@pytest.fixture
def told() -> Told:
    return []


def marks(told: Told, file: Path | None = None) -> Marks:
    return Marks(file, lambda team, gone: told.append((team, gone)))


def test_forwards(told: Told) -> None:
    """Numbers that grow are no news, in whatever order the answers come."""
    found = marks(told)
    first, second = found.before("vision"), found.before("vision")
    found.told("vision", second, 2)
    found.told("vision", first, 1)
    found.told("search", found.before("search"), 1)
    found.told("vision", found.before("vision"), 3)
    assert told == []


def test_backwards(told: Told) -> None:
    """A number that was told before means that at least so many writings are gone."""
    found = marks(told)
    found.told("vision", 0, 10)
    found.told("vision", found.before("vision"), 8)
    assert told == [("vision", 3)]


def test_once(told: Told) -> None:
    """Calls that were under way when it was found out do not tell it again."""
    found = marks(told)
    found.told("vision", 0, 10)
    before = [found.before("vision") for _ in range(3)]
    for writing, mark in enumerate(before, 4):
        found.told("vision", mark, writing)
    found.told("vision", found.before("vision"), 7)
    assert told == [("vision", 7)]


def test_kept(told: Told, tmp_path: Path) -> None:
    """A store that went backwards while no worker ran is found out by the next one."""
    file = tmp_path / "var" / "marks.json"
    before = marks(told, file)
    before.told("vision", 0, 10)
    before.keep()
    after = marks(told, file)
    after.told("vision", after.before("vision"), 1)
    assert told == [("vision", 10)]


def test_a_spoilt_file_is_none(told: Told, tmp_path: Path) -> None:
    """A file that cannot be read is as good as none."""
    file = tmp_path / "marks.json"
    file.write_bytes(b'{"vision": "ten"')
    assert marks(told, file).before("vision") == 0


def test_another_gateways_draft(told: Told, tmp_path: Path) -> None:
    """Where two gateways whose processes have the same id share a directory, neither touches what
    the other has not finished writing.
    """
    file = tmp_path / "marks.json"
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_bytes(b'{"vis')
    found = marks(told, file)
    found.told("vision", 0, 10)
    found.keep()
    assert draft.read_bytes() == b'{"vis'
    assert sorted(os.listdir(tmp_path)) == sorted([draft.name, file.name])
