"""Renewal: what keeps a reservation alive, what ends a stream, and what a dead worker leaves."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from proxy.domain.errors import Forbidden, GatewayError, Unauthorized
from proxy.domain.usage import Phase
from proxy.store.ledger import Ledger
from proxy.store.renewals import Renewals
from tests.store.ledgers import Meter, Till, open_till, until, worst
from tests.store.wire import open_wire

SHORT = 0.3  # seconds
AWAY = 60_000  # ms


@pytest.fixture
async def till(store_url: str) -> AsyncIterator[Till]:
    async with open_till(store_url, lease=SHORT) as opened:
        yield opened


def lease_end(till: Till) -> int:
    return next(iter(till.scripts.contents().leases.values()))


async def test_long_request(till: Till) -> None:
    """A request longer than its lease stays reserved, its count so far noted."""
    meter = Meter()
    async with till.reserve(await till.access(), 80, meter) as lease:
        first = lease_end(till)
        meter.used(30)
        await until(lambda: lease_end(till) > first + SHORT * 1000)
        found = till.scripts.contents()
        assert found.reservations[lease.id]["c"] == [1, 30, 0, 0, 0]
        assert found.expired == {}


async def test_many_leases(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many leases of one team are renewed in several calls, lest others wait for the store."""
    rounds: list[list[int]] = []
    renew_all, run = Renewals._renew_all, till.store.run

    async def begun(renewals: Renewals) -> Any:
        rounds.append([])
        return await renew_all(renewals)

    async def counted(script: str, keys: Any, *arguments: Any) -> Any:
        rounds[-1].append((len(arguments) - 2) // 9)
        return await run(script, keys, *arguments)

    access = await till.access()
    monkeypatch.setattr(Renewals, "_renew_all", begun)
    monkeypatch.setattr(till.store, "run", counted)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(150):
            await stack.enter_async_context(till.reserve(access, 5))
        first, before = till.scripts.contents().leases, len(rounds)
        await until(lambda: len(rounds) > before + 1)  # one that has them all is over
        assert rounds[before] == [100, 50]
        await until(lambda: min(till.scripts.contents().leases.values()) > max(first.values()))


async def test_renewed_before_the_upstream_is_called(till: Till) -> None:
    """A renewal that comes before the call does not take the input back that a death would cost."""
    async with till.reserve(await till.access(), 80) as lease:
        first = lease_end(till)
        await until(lambda: lease_end(till) > first)
        assert till.scripts.contents().reservations[lease.id]["c"] == [1, 80, 0, 0, 0]
    await till.ledger.settled()
    assert till.scripts.contents().rows == {}


async def test_dead_worker(till: Till) -> None:
    """What a dead worker held is freed by any other's sweep, a lease later."""
    dead, meter = Ledger(till.store, till.keys, lease=0.05), Meter()
    stand_in: Any = meter
    block = dead.reserve(await till.access(), "m1", "p1", worst(80), stand_in)
    await block.__aenter__()
    meter.phase = Phase.CALLED
    assert await until(lambda: till.ledger.sweep("vision")) == 1
    found = till.scripts.contents()
    assert found.leases == {}
    assert list(found.rows.values()) == [[1, 80, 0, 0, 0, 0, 0]]
    assert found.tallies["team|*"].reserved["total"] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("status", "error"), [("revoked", Unauthorized), ("paused", Forbidden)])
async def test_revoked(till: Till, status: str, error: type[GatewayError]) -> None:
    """A key that may no longer be used ends its streams at their next renewal."""
    access, told = await till.access(), list[GatewayError]()
    async with till.reserve(access, 80) as lease:
        lease.lost = told.append
        await till.directory.change_key(
            "vision", access.key.id, lambda r: msgspec.structs.replace(r, status=status)
        )
        await until(lambda: told)
    assert isinstance(told[0], error)


async def test_key_ends(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that comes to its end, by the store's clock, ends its streams."""
    access, told = await till.access(), list[GatewayError]()
    async with till.reserve(access, 80) as lease:
        lease.lost = told.append
        monkeypatch.setattr("proxy.store.lease.key_end", lambda access: 1)
        await until(lambda: told)
    assert "expired" in told[0].message


async def test_a_stream_that_cannot_be_ended(
    till: Till, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A lost lease whose stream will not end is told of, and others are renewed all the same."""

    def broken(reason: GatewayError) -> None:
        raise RuntimeError("its words")

    async with (
        till.reserve(await till.access(), 80) as lost,
        till.reserve(await till.access(name="other"), 5) as lease,
    ):
        lost.lost = broken
        monkeypatch.setattr(
            "proxy.store.lease.key_end", lambda access: 1 if access is lost.access else ""
        )
        first = till.scripts.contents().leases[lease.id]
        await until(lambda: till.scripts.contents().leases[lease.id] > first + SHORT * 1000)
    told = capfd.readouterr().out
    assert '"event":"unexpected"' in told
    assert '"error":"RuntimeError"' in told
    assert "its words" not in told


async def test_changed(till: Till) -> None:
    """A change that does not end a stream is taken up: the lease knows the new record."""
    access, told = await till.access(), list[GatewayError]()
    async with till.reserve(access, 80) as lease:
        lease.lost = told.append
        await till.directory.change_team(
            "vision", lambda r: msgspec.structs.replace(r, labels={"cost": "42"})
        )
        await until(lambda: lease.access.team.labels)
    assert told == []


async def test_gone(till: Till) -> None:
    """A lease that ran out while the store was there ends its stream."""
    told = list[GatewayError]()
    async with till.reserve(await till.access(), 80) as lease:
        lease.lost = told.append
        till.scripts.sweep(now=lease.now + AWAY)
        await until(lambda: told)
    assert "run out" in told[0].message


async def test_store_away(store_url: str) -> None:
    """A lease that ran out while the store was away does not: the stream settles late."""
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store, lease=SHORT) as till,
    ):
        access, meter, told = await till.access(), Meter(), list[GatewayError]()
        async with till.reserve(access, 80, meter) as lease:
            lease.lost = told.append
            wire.cut()
            await until(lambda: lease.missed)
            till.scripts.sweep(now=lease.now + AWAY)
            wire.mend()
            await until(lambda: lease.access is not access)
            meter.used(30)
        await till.ledger.settled()
        assert told == []
        assert list(till.scripts.contents().rows.values()) == [[1, 30, 0, 0, 0, 0, 0]]
