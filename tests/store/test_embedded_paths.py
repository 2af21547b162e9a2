"""The embedded Valkey in directories with long or odd names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.embedded import EmbeddedStoreError, EmbeddedValkey
from tests.store.processes import client, data, servers

__all__ = ["data"]


@pytest.mark.parametrize("name", ["a b", "50%20", "what?#", "quo'te\"", "größe", "-v"])
def test_any_name_will_do(data: Path, name: str) -> None:
    """A directory's name may hold what URLs, command lines and Valkey's config do not like."""
    with EmbeddedValkey(data / name) as store, client(store.url) as valkey:
        assert valkey.ping()


class TestLongPath:
    @pytest.fixture
    def data(self, data: Path) -> Path:
        path = data / ("long" * 30)
        assert len(str(path / "valkey.sock")) > 107
        return path

    @pytest.fixture
    def tmpdirs(self) -> Iterator[list[str]]:
        with (
            tempfile.TemporaryDirectory(prefix="vg-") as one,
            tempfile.TemporaryDirectory(prefix="vg-") as two,
        ):
            yield [one, two]

    def test_short_way(
        self, data: Path, tmpdirs: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory too deep for a socket is reached through a private temporary directory."""
        monkeypatch.setattr(tempfile, "tempdir", tmpdirs[0])
        ours = Path(tmpdirs[0]) / f"visiongate-{os.geteuid()}"
        with EmbeddedValkey(data) as store:
            assert store.url.startswith(f"unix://{ours}/")
            assert ours.stat().st_mode & 0o777 == 0o700
            with client(store.url) as valkey:
                assert valkey.ping()
        assert list(ours.iterdir()) == []
        assert servers(data) == []

    def test_other_tmpdir_same_server(
        self, data: Path, tmpdirs: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Commands with different TMPDIRs meet in one server."""
        monkeypatch.setattr(tempfile, "tempdir", tmpdirs[0])
        with EmbeddedValkey(data) as one:
            monkeypatch.setattr(tempfile, "tempdir", tmpdirs[1])
            with EmbeddedValkey(data) as two:
                assert two.url != one.url
                assert two.pid == one.pid

    @pytest.mark.parametrize("trap", ["symlink", "open", "file"])
    def test_taken_way(
        self, data: Path, tmpdirs: list[str], monkeypatch: pytest.MonkeyPatch, trap: str
    ) -> None:
        """A temporary directory that somebody else prepared is refused."""
        monkeypatch.setattr(tempfile, "tempdir", tmpdirs[0])
        ours = Path(tmpdirs[0]) / f"visiongate-{os.geteuid()}"
        if trap == "symlink":
            ours.symlink_to(tmpdirs[1])
        elif trap == "open":
            ours.mkdir()
            ours.chmod(0o777)
        else:
            ours.touch()
        with pytest.raises(EmbeddedStoreError, match="visiongate-"), EmbeddedValkey(data):
            pass

    def test_no_short_way(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the temporary directory is too deep as well, the error names TMPDIR."""
        data.mkdir(0o700, parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(data))
        with pytest.raises(EmbeddedStoreError, match="TMPDIR"), EmbeddedValkey(data):
            pass
