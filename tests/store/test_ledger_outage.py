"""The ledger while the store is away, and when it is back: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.domain.errors import StoreUnavailable, Unauthorized
from proxy.domain.grace import Grace
from proxy.domain.usage import Phase
from proxy.store import renewals, settlements
from proxy.store.journal import Entry, Journal, Replayed, adopt, replay
from proxy.store.keyring import KeyRing
from proxy.store.layout import team_keys
from proxy.store.marks import Marks
from tests.store.ledgers import PEPPER, PLANS, Meter, Till, open_till, until
from tests.store.wire import Wire, open_wire

SHORT = 0.15  # seconds; a renewal every third of it


@asynccontextmanager
async def wired(url: str, **parts: Any) -> AsyncIterator[tuple[Wire, Till]]:
    async with open_wire(url) as (wire, store), open_till(url, store, **parts) as till:
        yield wire, till


def grace() -> Grace:
    opened = Grace(Decimal("0.05"))
    opened.open = True
    return opened


def rows(till: Till) -> list[list[int]]:
    return list(till.scripts.contents().rows.values())


def left_behind(folder: Path, journal: Journal) -> list[Entry]:
    """What a worker that is killed now leaves."""
    assert journal._file is not None
    os.close(journal._file)
    journal._file = None
    (file,) = folder.iterdir()
    with adopt(file) as orphan:
        assert orphan is not None
        return orphan.entries()[0]


async def test_denied_by_default(store_url: str) -> None:
    """Without a grace nothing is admitted while the store is away."""
    async with wired(store_url) as (wire, till):
        access = await till.access()
        wire.cut()
        with pytest.raises(StoreUnavailable):
            async with till.reserve(access, 1):
                pytest.fail("admitted")


async def test_admitted_and_posted(store_url: str) -> None:
    """What is admitted on the worker's own account is charged once the store is back."""
    async with wired(store_url, grace=grace()) as (wire, till):
        access = await till.access("1000 tokens/day")
        wire.cut()
        for worst, used in ((50, 30), (20, 20)):
            meter = Meter()
            async with till.reserve(access, worst, meter):
                meter.used(used)
        with pytest.raises(StoreUnavailable, match="used up"):
            async with till.reserve(access, 50):
                pytest.fail("admitted")
        assert rows(till) == []
        wire.mend()
        await till.ledger.settled()
        assert rows(till) == [[2, 50, 0, 0, 0, 0, 0]]
        found = till.scripts.contents()
        assert found.leases == {}
        assert found.tallies["team|*"].posted["day"] == [2, 50, 0, 0, 0]


async def test_known_keys_only(store_url: str) -> None:
    """While the store is away a key is what it was when it was last seen; others are unknown."""
    async with wired(store_url, grace=grace()) as (wire, till):
        seen, unseen = await till.key(), await till.key(name="new")
        await till.keys.authenticate(seen.secret)
        wire.cut()
        till.keys._known = type(till.keys._known)(
            (digest, (access, since - 3600)) for digest, (access, since) in till.keys._known.items()
        )
        assert (await till.keys.authenticate(seen.secret)).key.name == "ci"
        with pytest.raises(StoreUnavailable):
            await till.keys.authenticate(unseen.secret)


async def test_a_key_that_has_ended_stays_ended(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key whose time is over while the store is away is refused."""
    async with wired(store_url, grace=grace()) as (wire, till):
        key = await till.key(expires_at=int(time.time()) + 3600)
        await till.keys.authenticate(key.secret)
        wire.cut()
        later = time.time() + 3601
        monkeypatch.setattr("proxy.store.keyring.time.time", lambda: later)
        with pytest.raises(Unauthorized, match="expired"):
            await till.keys.authenticate(key.secret)


async def test_a_deny_gateway_knows_no_stale_keys(store_url: str) -> None:
    """Where nothing may be served without the store, a key's record is not used past its time."""
    async with wired(store_url) as (wire, till):
        keys = KeyRing(till.store, (PEPPER,), PLANS)
        key = await till.key()
        await keys.authenticate(key.secret)
        keys._known = type(keys._known)((d, (a, s - 3600)) for d, (a, s) in keys._known.items())
        wire.cut()
        with pytest.raises(StoreUnavailable):
            await keys.authenticate(key.secret)


async def test_on_grace_it_is_another(store_url: str) -> None:
    """What is let in without the store keeps nothing of the reservation that was tried for it."""
    async with wired(store_url, grace=grace()) as (wire, till):
        lease = till.reserve(await till.access("1000 tokens/day"), 50)
        tried, lease.again, lease.figures = lease.id, True, (1, 2, 3)
        wire.cut()
        async with lease:
            assert lease.id != tried
            assert (lease.terms, lease.figures, lease.again) == (None, (), False)
            assert (lease.states, lease.limit_headers()) == ((), {})
        wire.mend()


async def test_outlives_its_worker(store_url: str, tmp_path: Path) -> None:
    """What a worker admitted without the store is charged after it was killed, once."""
    journal = Journal(tmp_path)
    async with (
        wired(store_url, grace=grace(), journal=journal) as (wire, till),
        open_till(store_url) as heir,
    ):
        access, meter = await till.access("1000 tokens/day"), Meter()
        wire.cut()
        async with till.reserve(access, 50, meter):
            meter.used(30)
        await until(lambda: journal.entries)
        (entry,) = left_behind(tmp_path, journal)
        assert entry.script == "post"
        assert await replay(heir.store, tmp_path, time.time()) == Replayed(settled=1)
        assert rows(heir) == [[1, 30, 0, 0, 0, 0, 0]]
        wire.mend()
        await till.ledger.settled()
        assert rows(heir) == [[1, 30, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("reserved", [True, False])
async def test_a_stream_killed_in_an_outage(store_url: str, tmp_path: Path, reserved: bool) -> None:
    """The charge so far of a stream that no store can be told of is in the journal."""
    journal = Journal(tmp_path)
    async with (
        wired(store_url, grace=grace(), journal=journal, lease=SHORT) as (wire, till),
        open_till(store_url) as heir,
    ):
        access, meter = await till.access(), Meter()
        if not reserved:
            wire.cut()
        block = till.reserve(access, 50, meter)
        await block.__aenter__()
        wire.cut()
        for used in (20, 30):
            before = journal.entries
            meter.used(used)
            meter.phase = Phase.STREAMING
            await until(lambda before=before: journal.entries > before + 1)
        left_behind(tmp_path, journal)
        assert await replay(heir.store, tmp_path, time.time()) == Replayed(settled=1)
        assert rows(heir) == [[1, 30, 0, 0, 0, 0, 0]]


async def test_told_again_after_an_outage(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a stream can be renewed again, what was noted of it is forgotten, and it is held."""

    async def soon(_: float) -> None:
        await asyncio.sleep(SHORT / 3)

    monkeypatch.setattr(renewals, "asyncio", SimpleNamespace(sleep=soon))
    journal = Journal(tmp_path)
    async with wired(store_url, journal=journal) as (wire, till):
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 50, meter) as lease:
            meter.used(20)
            wire.cut()
            await until(lambda: journal.entries)
            wire.mend()
            await until(lambda: not journal.entries)
            found = till.scripts.contents()
            assert (list(found.leases), found.expired) == ([lease.id], {})
            assert found.reservations[lease.id]["c"][:2] == [1, 20]


async def test_a_stream_whose_lease_ran_out_in_an_outage(store_url: str, tmp_path: Path) -> None:
    """It goes on, and since the store no longer holds it, the journal does, until it is over."""
    journal = Journal(tmp_path)
    async with (
        wired(store_url, journal=journal, lease=SHORT) as (wire, till),
        open_till(store_url) as other,
    ):
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 50, meter) as lease:
            meter.used(20)
            wire.cut()
            await until(lambda: other.ledger.sweep("vision"))
            assert list(till.scripts.contents().expired) == [lease.id]
            wire.mend()
            await until(lambda: lease.adrift)
            meter.used(30)
            before = journal.entries
            await until(lambda: journal.entries > before)
        await till.ledger.settled()
        await until(lambda: not journal.entries)
        assert rows(till) == [[1, 30, 0, 0, 0, 0, 0]]
        assert till.scripts.contents().expired == {}


async def test_stopped_while_the_store_is_away(store_url: str, tmp_path: Path) -> None:
    """A worker that stops leaves everything that it could not settle in the journal."""
    journal = Journal(tmp_path)
    async with wired(store_url, journal=journal) as (wire, till):
        access = await till.access()
        meters = [Meter() for _ in range(100)]
        blocks = [till.reserve(access, 5, meter) for meter in meters]
        for block, meter in zip(blocks, meters, strict=True):
            await block.__aenter__()
            meter.used(3)
        wire.cut()
        for block in blocks:
            await block.__aexit__(None, None, None)
        await till.ledger.stop(0)
        assert journal.entries == 100
        async with open_till(store_url) as heir:
            assert await replay(heir.store, tmp_path, time.time()) == Replayed(settled=100)
            assert rows(heir) == [[100, 300, 0, 0, 0, 0, 0]]


async def test_what_is_given_back_is_not_journalled(store_url: str, tmp_path: Path) -> None:
    """A refused request leaves nothing on the disk."""
    journal = Journal(tmp_path)
    async with wired(store_url, journal=journal) as (wire, till):
        access = await till.access()
        wire.cut()
        with pytest.raises(StoreUnavailable):
            await till.reserve(access, 5).__aenter__()
        await till.ledger.stop(0)
        assert journal._file is None


async def test_a_lost_reservation_is_told(store_url: str) -> None:
    """A reservation that the store acknowledged and then lost is reported with its tokens."""
    told: list[tuple[str, dict[str, object]]] = []

    def alarm(event: str, **fields: object) -> None:
        told.append((event, fields))

    async with open_till(store_url, alarm=alarm) as till:
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 50, meter):
            meter.used(30, 4)
            await till.store.ask(None, "FLUSHALL")
        await till.ledger.settled()
    assert told == [("reservation_lost", {"team": "vision", "model": "m1", "tokens": 34})]


async def test_a_store_that_went_backwards(store_url: str) -> None:
    """A store that has lost what it acknowledged is found out by the next call of the team's."""
    told: list[tuple[str, int]] = []
    marks = Marks(backwards=lambda team, gone: told.append((team, gone)))
    async with open_till(store_url, marks=marks) as till:
        access = await till.access()
        for _ in range(3):
            async with till.reserve(access, 5):
                pass
        await till.ledger.settled()
        assert told == []
        await till.store.ask(None, "DEL", till.scripts.names[1])
        await till.ledger.peek("vision", ())
        assert told == [("vision", 6)]


async def test_a_settlement_whose_answer_was_lost_is_no_alarm(store_url: str) -> None:
    """One that is sent again since its answer did not come is not taken for lost."""
    told: list[str] = []

    def alarm(event: str, **fields: object) -> None:
        told.append(event)

    async with wired(store_url, alarm=alarm) as (wire, till):
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 50, meter) as lease:
            meter.used(30)
            wire.lose = lease.id.encode()
        await until(lambda: not wire.whole)
        wire.mend()
        await till.ledger.settled()
        assert rows(till) == [[1, 30, 0, 0, 0, 0, 0]]
    assert told == []


async def test_a_charge_that_the_store_never_takes(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A charge that is refused for long, while others are taken, is left to the journal."""
    monkeypatch.setattr(settlements, "_HOPELESS", 0.0)
    told: list[str] = []
    journal = Journal(tmp_path)

    def alarm(event: str, **fields: object) -> None:
        told.append(event)

    async with open_till(store_url, journal=journal, alarm=alarm) as till:
        bad, good = await till.access(team="bad"), await till.access()
        block = till.reserve(bad, 5)
        await block.__aenter__()
        await till.store.ask(None, "SET", team_keys("bad")[2], "not a hash")
        await block.__aexit__(None, None, None)
        while not told:
            async with till.reserve(good, 5):
                pass
            await asyncio.sleep(0)
        await till.ledger.settled()
        assert told == ["settlement_refused"]
        async with till.reserve(good, 5):
            pass
        await till.ledger.settled()
        await till.store.ask(None, "DEL", team_keys("bad")[2])
        assert "bad" in [entry.team for entry in left_behind(tmp_path, journal)]
        assert await replay(till.store, tmp_path, time.time()) == Replayed()


async def test_all_that_waits_is_journalled(store_url: str, tmp_path: Path) -> None:
    """As soon as one charge cannot be made, all that wait behind it are on the disk."""
    journal = Journal(tmp_path)
    async with wired(store_url, journal=journal) as (wire, till):
        access = await till.access()
        blocks = [till.reserve(access, 5) for _ in range(200)]
        for block in blocks:
            await block.__aenter__()
        wire.cut()
        for block in blocks:
            await block.__aexit__(None, None, None)
        await until(lambda: journal.entries)
        assert journal.entries == 200
