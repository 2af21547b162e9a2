"""The journal: what the store could not take outlives the worker, and is charged once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.journal import REPLAYABLE, Entry, Journal, Replayed, adopt, replay
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
        for _ in range(2):
            assert await replay(heir.store, tmp_path, time.time()) == Replayed(1, 0)
            assert rows(heir) == [ROW]
            assert files(tmp_path) == []
            file.write_bytes(left)


async def test_what_is_too_old_is_told_not_charged(store_url: str, tmp_path: Path) -> None:
    """Past the days for which the ledger knows a reservation, entries are only counted."""
    journal = Journal(tmp_path)
    journal.write([entry(1, NOW - REPLAYABLE - 1), entry(2)])
    die(journal)
    async with open_till(store_url) as till:
        assert await replay(till.store, tmp_path, NOW) == Replayed(settled=1, too_old=1)


async def test_nothing_is_lost_where_the_store_is_away(tmp_path: Path) -> None:
    """A replay that fails leaves the file for the next one."""
    journal = Journal(tmp_path)
    journal.write([entry(1)])
    die(journal)
    nowhere = Store.open(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StoreUnavailable):
        await replay(nowhere, tmp_path, NOW)
    await nowhere.close()
    (orphan,) = adopt(tmp_path)
    assert orphan.entries() == [entry(1)]
    orphan.release()


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
        assert adopt(tmp_path) == []
        worker.kill()
    (orphan,) = adopt(tmp_path)
    assert [e.arguments for e in orphan.entries()] == [("", "r1")]
    orphan.remove()


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    """What was being written when the machine stopped does not spoil what was written before."""
    journal = Journal(tmp_path)
    journal.write([entry(1), entry(2)])
    die(journal)
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:-7])
    (orphan,) = adopt(tmp_path)
    assert orphan.entries() == [entry(1)]
    orphan.release()
