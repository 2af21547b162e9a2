"""The bench of the store's growth, in small; no figure is judged."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from bench import growth, kernel
from tests.chaos.books import Books
from tests.chaos.server import run_server

pytestmark = pytest.mark.skipif(kernel.missing() is not None, reason=str(kernel.missing()))


async def test_every_stream_is_reserved_and_settled(tmp_path: Path) -> None:
    """What is measured is real: each stream is a request in its team's rows, and none is held."""
    with run_server(tmp_path) as server:
        pid = server.info("server")["process_id"]
        row = await growth.measure(server.url, pid, teams=2, streams=9, limits=4)
        books = Books(lambda _: server.url)
        rows = [sum(r.requests for r in books.charged(f"team-{n}").values()) for n in range(2)]
        assert rows == [5, 4]
        assert not any(books.live(f"team-{n}") for n in range(2))
    assert min(row.reserve, row.renew, row.settle, row.look) > 0
    assert min(row.disk_bytes, row.team_bytes, row.used_bytes) > 0


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has its costs and what a core of the store bears."""
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    growth.show([growth.Row(1000, 60.0, 30.0, 40.0, 50.0, 350.0, 2_800.0, 2_500.0, 5_400.0)])
    text = " ".join(out.getvalue().split())
    assert "60.0" in text
    assert "10,000" in text  # 1 s / 100 µs
    assert "214,286" in text  # 1 s / (30 µs / 10 + 100 µs / 60)


def test_the_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is called: a Valkey of its own for each number of teams."""
    monkeypatch.setattr(
        sys, "argv", ["growth", "--teams", "1,2", "--streams", "4", "--limits", "1"]
    )
    assert growth.main() == 0
    assert "what a stream costs its store" in capsys.readouterr().out
