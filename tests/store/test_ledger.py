"""The ledger's own part: reserving, its queue of settlements, and who is told."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from proxy.domain.errors import LimitExceeded, StoreUnavailable, Unauthorized
from proxy.domain.limits import parse_limit
from proxy.domain.usage import Amounts, Charge
from proxy.store import ledger, lines
from proxy.store.commands import pack_script
from proxy.store.figures import script_words
from proxy.store.layout import team_keys
from proxy.store.lease import key_end, settlement, terms_of, to_reserve, to_settle
from proxy.store.ledger import Ledger
from tests.store.ledgers import Meter, Till, open_till, until, worst
from tests.store.wire import Wire, open_wire

RECORD = b'"plan":'  # in what reserve and renew send, and in nothing that settles
ROW = [1, 30, 0, 0, 0, 0, 0]


@pytest.fixture
async def till(store_url: str) -> AsyncIterator[Till]:
    async with open_till(store_url) as opened:
        yield opened


@pytest.fixture
async def wired(store_url: str) -> AsyncIterator[tuple[Wire, Till]]:
    """A till whose store is at the end of a wire, the scripts loaded."""
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store) as opened,
    ):
        async with opened.reserve(await opened.access(name="first"), 1):
            pass
        await opened.ledger.settled()
        yield wire, opened
        wire.mend()
        wire.release()


def rows(till: Till) -> list[list[int]]:
    return list(till.scripts.contents().rows.values())


async def test_charged(till: Till) -> None:
    """Leaving the block charges what the meter counted, and tells the limits as they were."""
    access, meter = await till.access("100 tokens/day"), Meter()
    async with till.reserve(access, 80, meter) as lease:
        assert [(s.used, s.reserved, s.amount) for s in lease.states] == [(0, 0, 100)]
        assert (till.ledger.live, till.ledger.reserved_tokens) == (1, 80)
        meter.used(30)
    await till.ledger.settled()
    _, states = await till.ledger.peek("vision", access.bounds)
    assert [(s.used, s.reserved, s.amount) for s in states] == [(30, 0, 100)]
    assert (till.ledger.live, rows(till)) == (0, [ROW])


async def test_body_raises(till: Till) -> None:
    """Whatever ends the block, it is settled."""
    meter = Meter()
    block = till.reserve(await till.access(), 80, meter)
    await block.__aenter__()
    meter.used(30)
    error = ZeroDivisionError()
    assert not await block.__aexit__(ZeroDivisionError, error, None)
    await till.ledger.settled()
    assert rows(till) == [ROW]


async def test_refused(till: Till) -> None:
    """A request without room raises the 429, and leaves nothing to settle."""
    access = await till.access("10 tokens/day")
    with pytest.raises(LimitExceeded):
        await till.reserve(access, 11).__aenter__()
    assert till.ledger.unsettled == 0
    assert till.scripts.contents().reservations == {}


async def test_observed(till: Till) -> None:
    """A plan that only watches admits, and the lease knows what would have been said."""
    access = await till.access("10 tokens/day", plan="watch")
    access = replace(access, enforce=False)
    async with till.reserve(access, 10) as lease:
        assert till.ledger.refused_by(lease) is None
    async with till.reserve(access, 11) as lease:
        assert isinstance(till.ledger.refused_by(lease), LimitExceeded)


async def test_drain(till: Till) -> None:
    """A lease with a drain settles when that is over, with what was counted by then."""
    meter, over = Meter(), asyncio.Event()
    async with till.reserve(await till.access(), 80, meter) as lease:
        lease.drain = asyncio.create_task(over.wait())
    assert till.ledger.live == 1
    meter.used(30)
    over.set()
    await until(lambda: rows(till) == [ROW])


async def test_new_limit(till: Till) -> None:
    """A limit that was set a moment ago binds, whatever access the request came with."""
    access = await till.access("10 tokens/day")
    new = (parse_limit("20 tokens/day"),)
    await till.directory.change_key(
        "vision", access.key.id, lambda r: msgspec.structs.replace(r, limits=new)
    )
    async with till.reserve(access, 15) as lease:
        assert lease.states[0].amount == 20


async def test_revoked(till: Till) -> None:
    """A key that was revoked a moment ago reserves nothing."""
    access = await till.access()
    await revoke(till, access)
    with pytest.raises(Unauthorized):
        await till.reserve(access, 15).__aenter__()
    await till.ledger.settled()
    assert till.scripts.contents().leases == {}


async def revoke(till: Till, access: Any) -> None:
    await till.directory.change_key(
        "vision", access.key.id, lambda r: msgspec.structs.replace(r, status="revoked")
    )


async def test_key_ends(till: Till) -> None:
    """The store is told the end of the key, or of the secret that was used if that is sooner."""
    key = await till.key(expires_at=4_000_000_000)
    access = await till.keys.authenticate(key.secret)
    async with till.reserve(access, 1) as lease:
        assert key_end(lease.access) == 4_000_000_000_000
        assert struct.pack("<2d", 1000, 4_000_000_000_000) in to_reserve(lease, terms_of(lease, 1))
    await till.directory.rotate_key(key.record, overlap=3600)
    old = await till.keys.reload(access)
    end = old.key.secrets[1].expires_at or 0
    async with till.reserve(old, 1) as rotated:
        assert key_end(rotated.access) == end * 1000 < 4_000_000_000_000


@pytest.mark.parametrize("made", [True, False])
async def test_settlements_are_alike(till: Till, made: bool) -> None:
    """A settlement that its worker sends is the same command as one that is replayed for it."""
    async with till.reserve(await till.access(), 1) as lease:
        lease.made = made
        lease.charge = Charge(Amounts(1, 20, 30, 4, 5 * 10**15), 6, 7, "upstream")
        script, words = settlement(lease)
        again = pack_script(script, team_keys(lease.team), script_words(script, words))
        assert to_settle(lease) == (script, team_keys(lease.team)[0], again)
        lease.made = True


async def test_settles_after_outage(wired: tuple[Wire, Till]) -> None:
    """What ends while the store is away settles once it is back."""
    wire, till = wired
    meter = Meter()
    async with till.reserve(await till.access(), 80, meter):
        meter.used(30)
        wire.cut()
    await until(lambda: till.ledger.unsettled)
    assert rows(till) == []
    wire.mend()
    await till.ledger.settled()
    assert rows(till) == [ROW]


async def test_settles_once(wired: tuple[Wire, Till]) -> None:
    """A settlement whose answer was lost is sent again, and charged once."""
    wire, till = wired
    meter = Meter()
    async with till.reserve(await till.access(), 80, meter) as lease:
        meter.used(30)
        wire.lose = lease.id.encode()
    await until(lambda: rows(till) == [ROW])
    await until(lambda: not wire.whole)
    wire.mend()
    await till.ledger.settled()
    assert rows(till) == [ROW]


async def test_batches(wired: tuple[Wire, Till], monkeypatch: pytest.MonkeyPatch) -> None:
    """Settlements that pile up go in batches of 64."""
    wire, till = wired
    access, sizes, run_many = await till.access(), [], till.store.run_many_packed

    async def counted(script: str, calls: Any) -> Any:
        results = await run_many(script, calls)
        sizes.append(len(calls))
        return results

    monkeypatch.setattr(till.store, "run_many_packed", counted)
    blocks = [till.reserve(access, 1) for _ in range(100)]
    for block in blocks:
        await block.__aenter__()
    wire.cut()
    for block in blocks:
        await block.__aexit__(None, None, None)
    wire.mend()
    await till.ledger.settled()
    assert (sum(sizes), max(sizes)) == (100, 64)
    assert till.scripts.contents().leases == {}


async def test_one_bad_team(till: Till) -> None:
    """A team whose records are broken does not hold up the settlements of others."""
    bad, good = await till.access(team="bad"), await till.access()
    counters = team_keys("bad")[1]
    meter = Meter()
    async with till.reserve(bad, 1), till.reserve(good, 80, meter):
        meter.used(30)
        await till.store.redis.rename(counters, "kept")
        await till.store.redis.set(counters, "not a hash")
    await until(lambda: rows(till) == [ROW])
    await till.store.redis.rename("kept", counters)
    await till.ledger.settled()
    assert await till.store.redis.zcard(team_keys("bad")[3]) == 0


async def test_answer_lost(wired: tuple[Wire, Till]) -> None:
    """A reservation whose answer was lost is given back: the client was told 503."""
    wire, till = wired
    access = await till.access("10 tokens/day")
    wire.lose = RECORD
    with pytest.raises(StoreUnavailable):
        await till.reserve(access, 10).__aenter__()
    assert len(till.scripts.contents().leases) == 1
    wire.mend()
    await till.ledger.settled()
    assert (till.scripts.contents().leases, rows(till)) == ({}, [])


async def test_cancelled_on_the_way(wired: tuple[Wire, Till]) -> None:
    """A reserve that reaches the store after it was given back is not made."""
    wire, till = wired
    block = till.reserve(await till.access(), 10)
    wire.hold = RECORD
    reserving = asyncio.create_task(block.__aenter__())
    await wire.held.wait()
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    await till.ledger.settled()
    wire.release()
    await wire.passed.wait()
    assert till.scripts.contents().leases == {}


async def test_cancelled_anywhere(till: Till) -> None:
    """Wherever a request is cancelled, nothing stays reserved and nothing is charged."""
    access = await till.access()

    async def request() -> None:
        async with till.reserve(access, 10):
            await asyncio.Event().wait()

    for turns in range(40):
        task = asyncio.create_task(request())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await till.ledger.settled()
    found = till.scripts.contents()
    assert (found.leases, found.rows) == ({}, {})
    assert till.ledger.live == 0


async def test_not_started(till: Till) -> None:
    """A ledger that is asked to stop waits for the settlements that it has."""
    ledger = Ledger(till.store, till.keys)
    access, meter = await till.access(), Meter()
    stand_in: Any = meter
    async with ledger.reserve(access, "m1", "p1", worst(80), stand_in):
        meter.used(30)
    assert ledger.unsettled == 1
    await ledger.start()
    await ledger.stop()
    assert rows(till) == [ROW]


async def test_few_settle_at_once(till: Till) -> None:
    """Where few streams are under way, a settlement waits for no company."""
    async with till.reserve(await till.access("100 tokens/day"), 1):
        pass
    assert await till.held() == 0


async def test_many_settle_together(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many are, a settlement goes out with the next reservation."""
    monkeypatch.setattr(ledger, "_FEW", 1)
    monkeypatch.setattr(lines, "_HOLD", 60)
    access = await till.access("100 tokens/day")
    async with till.reserve(access, 1):
        async with till.reserve(access, 1):
            pass
        assert await till.held() == till.ledger.unsettled == 1
        async with till.reserve(access, 1):
            await till.ledger.settled()
