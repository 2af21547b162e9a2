"""The journal: what the store could not take outlives the worker, and is charged once."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.journal import REPLAYABLE, Entry, Journal, Replayed, adopt, replay
from proxy.store.layout import team_keys
from tests.store.ledgers import Meter, Till, open_till, until
from tests.store.wire import open_wire

ROW = [1, 30, 0, 0, 0, 0, 0]
NOW = 1_800_000_000.0


def entry(number: int, at: float = NOW) -> Entry:
    return Entry("vision", ("", f"r{number}", "p1", 1, 5, 0, 0, 0, 0, 0, "0"), at)


def rows(till: Till) -> list[list[int]]:
    return list(till.scripts.contents().rows.values())


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def left(folder: Path) -> tuple[list[Entry], int]:
    """What the one file of a dead worker holds."""
    (file,) = files(folder)
    with adopt(file) as orphan:
        assert orphan is not None
        return orphan.entries()


def die(journal: Journal) -> None:
    """Let go of the file as a killed process does: without a word."""
    assert journal._file is not None
    os.close(journal._file)
    journal._file = None


async def test_kept_while_the_store_is_away(store_url: str, tmp_path: Path) -> None:
    """A settlement that the store does not take is on disk, and goes once it is taken."""
    journal = Journal(tmp_path)
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store, journal=journal) as till,
    ):
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 80, meter):
            meter.used(30)
            wire.cut()
        await until(lambda: journal.entries)
        (file,) = files(tmp_path)
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"vision" in file.read_bytes()
        assert rows(till) == []
        wire.mend()
        await till.ledger.settled()
        await until(lambda: not journal.entries)
        assert rows(till) == [ROW]
        assert file.stat().st_size == 0
    assert files(tmp_path) == []


async def test_a_dead_workers_settlement_is_made_once(store_url: str, tmp_path: Path) -> None:
    """Another worker replays what a dead one left; a second time charges nothing."""
    journal = Journal(tmp_path)
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store, journal=journal) as till,
        open_till(store_url) as heir,
    ):
        meter = Meter()
        async with till.reserve(await till.access(), 80, meter):
            meter.used(30)
            wire.cut()
        await until(lambda: journal.entries)
        (file,) = files(tmp_path)
        left = file.read_bytes()
        die(journal)
        for settled in (1, 0):
            assert await replay(heir.store, tmp_path, time.time()) == Replayed(settled)
            assert rows(heir) == [ROW]
            assert files(tmp_path) == []
            file.write_bytes(left)


async def test_what_is_too_old_is_told_not_charged(store_url: str, tmp_path: Path) -> None:
    """Past the days for which the ledger knows a reservation, entries are only counted."""
    journal = Journal(tmp_path)
    journal.write([entry(1, NOW - REPLAYABLE - 1), entry(2)])
    die(journal)
    async with open_till(store_url) as till:
        assert await replay(till.store, tmp_path, NOW) == Replayed(too_old=1)


async def test_nothing_is_lost_where_the_store_is_away(tmp_path: Path) -> None:
    """A replay that fails leaves the file for the next one."""
    journal = Journal(tmp_path)
    journal.write([entry(1)])
    die(journal)
    nowhere = Store.open(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StoreUnavailable):
        await replay(nowhere, tmp_path, NOW)
    await nowhere.close()
    assert left(tmp_path) == ([entry(1)], 0)


def test_a_living_workers_file_is_its_own(tmp_path: Path) -> None:
    """Nobody adopts a file whose process lives; a killed process leaves it to others."""
    code = (
        "import sys; from pathlib import Path; from proxy.store.journal import Entry, Journal\n"
        "Journal(Path(sys.argv[1])).write([Entry('t', ('', 'r1'), 1.0)])\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"written\n"
        (file,) = files(tmp_path)
        with adopt(file) as orphan:
            assert orphan is None
        worker.kill()
    assert [e.arguments for e in left(tmp_path)[0]] == [("", "r1")]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """What was being written when the machine stopped does not spoil what was written before."""
    journal = Journal(tmp_path)
    journal.write([entry(1), entry(2)])
    die(journal)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-7])
    assert left(tmp_path) == ([entry(1)], 1)


def test_the_last_entry_of_a_request_holds(tmp_path: Path) -> None:
    """A charge so far is replaced by the one that was written after it."""
    journal = Journal(tmp_path)
    journal.write([entry(1), entry(2)])
    later = Entry("vision", ("", "r1", "p1", 1, 9, 0, 0, 0, 0, 0, "0"), NOW)
    journal.write([later])
    die(journal)
    assert left(tmp_path) == ([later, entry(2)], 0)


def test_a_full_disk_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written by halves is taken back, and the next line stands by itself."""
    journal = Journal(tmp_path)
    journal.write([entry(1)])
    write = os.write

    def short_of_space(file: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as full:
        full.setattr(os, "write", short_of_space)
        with pytest.raises(OSError, match="No space"):
            journal.write([entry(2)])
    journal.write([entry(3)])
    die(journal)
    assert left(tmp_path) == ([entry(1), entry(3)], 0)


async def test_one_that_the_store_refuses(store_url: str, tmp_path: Path) -> None:
    """An entry that the store does not take stays, and holds up no other."""
    async with open_till(store_url) as till:
        await till.store.redis.set(team_keys("bad")[2], "not a hash")
        async with till.reserve(await till.access(), 80) as lease:
            journal = Journal(tmp_path)
            good = Entry("vision", ("", lease.id, "p1", 1, 30, 0, 0, 0, 0, 0, "0"), NOW)
            journal.write([msgspec.structs.replace(entry(1), team="bad"), good])
            die(journal)
            assert await replay(till.store, tmp_path, NOW) == Replayed(settled=1, refused=1)
            assert rows(till) == [ROW]
        await till.store.redis.delete(team_keys("bad")[2])
        assert await replay(till.store, tmp_path, NOW) == Replayed()
        assert files(tmp_path) == []


async def test_a_file_that_cannot_be_read(store_url: str, tmp_path: Path) -> None:
    """What is spoilt is put aside, and what cannot be opened is told; neither holds up others."""
    for number in (1, 2, 3):
        journal = Journal(tmp_path)
        journal._path = tmp_path / f"{number}.journal"
        journal.write([entry(number)])
        die(journal)
    (tmp_path / "1.journal").write_bytes(b'{"team": "\xff"}\n')
    (tmp_path / "2.journal").unlink()
    (tmp_path / "2.journal").mkdir()
    async with open_till(store_url) as till:
        assert await replay(till.store, tmp_path, NOW) == Replayed(unreadable=1, closed=1)
    assert sorted(file.name for file in files(tmp_path)) == ["1.bad", "2.journal"]


async def test_a_failed_replay_lets_go_of_the_files(tmp_path: Path) -> None:
    """Where the store is away, others can adopt the files later."""
    for _ in range(3):
        journal = Journal(tmp_path)
        journal.write([entry(1)])
        die(journal)
    nowhere = Store.open(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StoreUnavailable):
        await replay(nowhere, tmp_path, NOW)
    await nowhere.close()
    for file in files(tmp_path):
        with adopt(file) as orphan:
            assert orphan is not None


def test_a_file_adopted_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose new file was removed before it had locked it makes another."""
    flock, removed = fcntl.flock, list[Path]()

    def too_late(file: int, kind: int) -> None:
        if not removed:
            (path,) = files(tmp_path)
            path.unlink()
            removed.append(path)
        flock(file, kind)

    monkeypatch.setattr("fcntl.flock", too_late)
    journal = Journal(tmp_path)
    journal.write([entry(1)])
    die(journal)
    assert left(tmp_path) == ([entry(1)], 0)
