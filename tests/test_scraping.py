"""What several workers share of their metrics, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import tempfile
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from proxy import mapped, scraping
from proxy.metrics import Metrics
from tests.gateway import Gateway


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
    dead, foreign = temporary / "visiongate-metrics-dead", temporary / "visiongate-metrics-cat.png"
    dead.mkdir()
    (dead / "lock").touch()
    foreign.touch()
    with scraping.folder() as first, scraping.folder() as second:
        assert first.exists()
        assert second.exists()
        assert not dead.exists()
    assert os.listdir(temporary) == [foreign.name]


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of two workers that counted, and of one that is gone."""
    monkeypatch.setattr(scraping, "_shared", None)
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    for slot in range(3):
        scraping.join(tmp_path, slot)
        metrics = Metrics(config_hash="abc")
        metrics.requests["vision", f"k{slot % 2}", "gpt-4o", "openai", "200"] += 1 + slot / 8
        metrics.requests["a\\b", 'c"d', "e\nf", "", "429"] += 10_000_000
        metrics.image_bytes[()] += slot
        metrics.overhead["read",].extend([0.0002, 0.2 * slot])
        metrics.streaming = slot
        metrics.tell()
    scraping.leave(tmp_path, 2)
    return tmp_path


def test_files_have_their_blocks(counted: Path) -> None:
    """What is mapped is on the disk, so that no write to it can be a SIGBUS."""
    found = [file.stat() for file in counted.glob("*.db")]
    assert found
    assert all(each.st_blocks * 512 >= each.st_size for each in found)


@pytest.mark.usefixtures("counted")
def test_a_full_disk_for_new_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk has no room for another series, those that are there count on, and once
    there is room the others are shown with all that they counted.
    """

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped, "_AGAIN", 0)
    scraping.join(tmp_path / "more", 0)
    (tmp_path / "more").mkdir()
    metrics = Metrics()
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        for _ in range(2):
            for key in range(1000):
                metrics.requests["vision", f"k{key}", "gpt-4o", "openai", "200"] += 1
            metrics.tell()
            assert mapped.refused() is True
        shown = scraping.gathered(tmp_path / "more").decode()
        found = re.findall(r"visiongate_requests_total\{.*\} (.*)", shown)
        assert 0 < len(found) < 1000
        assert set(found) == {"2.0"}
    for key in range(1000):
        metrics.requests["vision", f"k{key}", "gpt-4o", "openai", "200"] += 1
    metrics.tell()
    assert mapped.refused() is False
    shown = scraping.gathered(tmp_path / "more").decode()
    assert re.findall(r"visiongate_requests_total\{.*\} (.*)", shown) == ["3.0"] * 1000


def test_no_room_for_a_file(counted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the disk had no first block for is named in the error, and harms no scrape."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*counter_9.db"):
        mapped.Mapped(str(counted / "counter_9.db"))
    assert b"visiongate_requests_total{" in scraping.gathered(counted)


def test_the_text_is_prometheus_clients(counted: Path) -> None:
    """What is added up and written here is what prometheus_client makes of the same files."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(counted))
    theirs = text_string_to_metric_families(generate_latest(registry).decode())
    ours = text_string_to_metric_families(scraping.gathered(counted).decode())
    expected = {m.name: (m.documentation, m.type, by_name(m)) for m in theirs}
    assert expected["visiongate_streams_active"][2] == {("visiongate_streams_active",): 1}
    assert {m.name: (m.documentation, m.type, by_name(m)) for m in ours} == expected


def by_name(metric: Metric) -> dict[tuple[str, ...], float]:
    """Its samples by their name and labels."""
    return {
        (s.name, *(f"{k}={v}" for k, v in sorted(s.labels.items()))): s.value
        for s in metric.samples
    }


@pytest.mark.parametrize("text", [None, b"", b"visiongate_workers 1"])
async def test_a_scrape_that_fails(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None
) -> None:
    """Where the text cannot be made, or breaks off, the scrape is answered with 503, and Prometheus
    takes it for none.
    """
    monkeypatch.setattr(scraping, "_shared", tmp_path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text or b"")
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        if text is not None:
            server = await asyncio.start_unix_server(answer, tmp_path / scraping.SOCKET)
            await stack.enter_async_context(server)
        async with gateway.session.get(f"{gateway.admin}/metrics") as told:
            assert (told.status, await told.json()) == (
                503,
                {"status": "the metrics could not be gathered"},
            )
