"""The data directory: whose it is, and the pepper in it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.store.embedded import EmbeddedStoreError, EmbeddedValkey, make_pepper


def test_pepper_is_kept(tmp_path: Path) -> None:
    """The pepper is made once, with 256 bits, no comma and no reader but its owner."""
    data = tmp_path / "var"
    pepper = make_pepper(data)
    assert make_pepper(data) == pepper
    assert len(pepper) == 43
    assert "," not in pepper
    assert (data / "pepper").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o700
    assert os.listdir(data) == ["pepper"]


def test_peppers_differ(tmp_path: Path) -> None:
    """Two directories have two peppers."""
    assert make_pepper(tmp_path / "a") != make_pepper(tmp_path / "b")


def test_pepper_race(tmp_path: Path) -> None:
    """All who make a pepper at once get the same one."""
    many = 8
    with ThreadPoolExecutor(many) as pool:
        for number in range(20):
            data, start = tmp_path / str(number), threading.Barrier(many)

            def make(data: Path = data, start: threading.Barrier = start) -> str:
                start.wait(timeout=10)
                return make_pepper(data)

            made = [pool.submit(make) for _ in range(many)]
            assert len({one.result(timeout=10) for one in made}) == 1


def test_empty_pepper(tmp_path: Path) -> None:
    """A lost pepper is never replaced in silence: every key would become unknown."""
    (tmp_path / "pepper").touch(0o600)
    with pytest.raises(EmbeddedStoreError, match="is empty"):
        make_pepper(tmp_path)


def test_open_pepper(tmp_path: Path) -> None:
    """A pepper that others may read is refused."""
    make_pepper(tmp_path)
    (tmp_path / "pepper").chmod(0o640)
    with pytest.raises(EmbeddedStoreError, match="chmod 600"):
        make_pepper(tmp_path)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_shared_directory(tmp_path: Path, mode: int) -> None:
    """A directory that others may write to is refused and stays as it is."""
    tmp_path.chmod(mode)
    with pytest.raises(EmbeddedStoreError, match="others may write"), EmbeddedValkey(tmp_path):
        pass
    assert tmp_path.stat().st_mode & 0o7777 == mode
    assert os.listdir(tmp_path) == []


def test_foreign_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of another account is refused: files of two owners would lock both out."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with (
        pytest.raises(EmbeddedStoreError, match=f"belongs to uid {os.getuid()}"),
        EmbeddedValkey(tmp_path),
    ):
        pass


def test_no_directory(tmp_path: Path) -> None:
    """What the system says of a path that cannot be a directory is told as our error."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(EmbeddedStoreError, match="Not a directory"),
        EmbeddedValkey(tmp_path / "file" / "var"),
    ):
        pass


def test_symlinked_directory(tmp_path: Path) -> None:
    """A symlink to the directory leads to the same pepper."""
    pepper = make_pepper(tmp_path / "var")
    (tmp_path / "link").symlink_to(tmp_path / "var")
    assert make_pepper(tmp_path / "link") == pepper
