"""The queue of settlements: whose store is away is in nobody's way, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.domain.errors import LimitExceeded, StoreUnavailable
from proxy.domain.grace import Grace
from proxy.store import settlements
from proxy.store.client import Store
from proxy.store.journal import Journal, Replayed, replay
from proxy.store.layout import team_keys
from proxy.store.node import Alone, Node
from proxy.store.reach import GATEWAY, connect
from tests.store.ledgers import Meter, Till, open_till, until
from tests.store.wire import Wire, open_wire

SHORT = 0.15  # seconds; a renewal every third of it


class Two(Alone):
    """Like a cluster: what is of the team "far" is on a server behind a wire."""

    def __init__(self, near: Node, far: Node) -> None:
        super().__init__(near)
        self._near, self._far = near, far

    @property
    def nodes(self) -> list[Node]:
        return [self._near, self._far]

    def known(self, key: str) -> Node:
        return self._far if "{far}" in key else self._near

    async def find(self, key: str | None) -> Node:
        return self.known(key or "")


@asynccontextmanager
async def divided(url: str, **parts: Any) -> AsyncIterator[tuple[Wire, Wire, Till]]:
    """The wire to the far team, the one to the others, and a till."""
    async with open_wire(url) as (wire, _), open_wire(url) as (short, _):
        near, far = (Node(name, connect(name), GATEWAY) for name in (short.url, wire.url))
        store = Store(Two(near, far))
        try:
            async with open_till(url, store, **parts) as till:
                yield wire, short, till
        finally:
            await near.close()
            await far.close()


async def end(till: Till, access: Any, tokens: int = 3) -> None:
    """A request that is over, and settled."""
    meter = Meter()
    async with till.reserve(access, 5, meter):
        meter.used(tokens)


def rows(till: Till, team: str = "vision") -> list[str]:
    found: list[str] = till.scripts.client.hvals(team_keys(team)[5])
    return [row.decode() if isinstance(row, bytes) else row for row in found]


@pytest.mark.parametrize("admitted", ["reserved", "on grace"])
async def test_sent_twice_by_the_client(store_url: str, admitted: str) -> None:
    """A settlement whose connection died after it was made is not taken for a lost reservation."""
    told: list[str] = []

    def alarm(event: str, **fields: object) -> None:
        told.append(event)

    grace = Grace(Decimal("0.05"))
    grace.open = admitted == "on grace"
    async with (
        open_wire(store_url, GATEWAY) as (wire, store),
        open_till(store_url, store, alarm=alarm, grace=grace) as till,
    ):
        access, meter = await till.access(), Meter()
        if grace.open:
            wire.cut()
        async with till.reserve(access, 50, meter) as lease:
            wire.mend()
            await until(lambda: not store.away)
            meter.used(30)
            wire.drop = lease.id.encode()
        await till.ledger.settled()
        assert wire.drop is None
        assert rows(till) == ["1 30 0 0 0 0 0"]
    assert told == []


async def test_notes_of_streams_stay(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a stream runs that only the journal knows of, others' settlements do not clear it."""
    cleared: list[int] = []
    clear = Journal.clear

    def counted(journal: Journal) -> None:
        cleared.append(journal.entries)
        clear(journal)

    monkeypatch.setattr(Journal, "clear", counted)
    journal, grace = Journal(tmp_path), Grace(Decimal("0.05"))
    grace.open = True
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store, lease=SHORT, journal=journal, grace=grace) as till,
    ):
        access, meter = await till.access(), Meter()
        wire.cut()
        async with till.reserve(access, 50, meter):
            meter.used(20)
            await until(lambda: journal.entries)
            wire.mend()
            for _ in range(3):
                await end(till, access)
                await till.ledger.settled()
            assert cleared == []
        await till.ledger.settled()
        await until(lambda: not journal.entries)


async def test_a_server_away_is_no_refusal(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A charge whose server is away, while another takes many, is made when it is back."""
    monkeypatch.setattr(settlements, "_HOPELESS", 0.0)
    told: list[str] = []

    def alarm(event: str, **fields: object) -> None:
        told.append(event)

    async with divided(store_url, alarm=alarm, journal=Journal(tmp_path)) as (wire, _, till):
        far, near = await till.access(team="far"), await till.access()
        meter = Meter()
        async with till.reserve(far, 5, meter) as lease:
            meter.used(4)
            wire.drop = lease.id.encode()
        for _ in range(3):
            await until(lambda: wire.drop is None)
            await end(till, near)
            wire.drop = lease.id.encode()
        wire.cut()
        for _ in range(20):
            await end(till, near)
            await until(lambda: till.ledger.unsettled <= 1)
        wire.drop = None
        wire.mend()
        await till.ledger.settled()
        assert rows(till, "far") == ["1 4 0 0 0 0 0"]
    assert told == []


async def test_many_that_wait_delay_no_others(store_url: str) -> None:
    """However many charges wait for a server that is away, one for another is made at once,
    also where that had to be tried again.
    """
    async with divided(store_url) as (wire, short, till):
        far, near = await till.access(team="far"), await till.access()
        blocks = [till.reserve(far, 5) for _ in range(1000)]
        for block in blocks:
            await block.__aenter__()
        wire.cut()
        for block in blocks:
            await block.__aexit__(None, None, None)
        await until(lambda: till.store.servers.nodes[1].away)
        for _ in range(5):
            async with till.reserve(near, 5) as lease:
                short.drop = lease.id.encode()
            await until(lambda: till.ledger.unsettled == 1000, 0.5)
            assert short.drop is None
        wire.mend()
        await till.ledger.settled()
        assert till.scripts.client.zcard(team_keys("far")[3]) == 0


async def test_refused_requests_leave_nothing(store_url: str) -> None:
    """Of a request that was not sent, as its team's server is away, there is nothing to undo."""
    async with divided(store_url) as (wire, _, till):
        far = await till.access(team="far")
        wire.cut()
        with pytest.raises(StoreUnavailable):
            await till.reserve(far, 5).__aenter__()
        await until(lambda: till.store.servers.nodes[1].away)
        before = till.ledger.unsettled
        for _ in range(20):
            with pytest.raises(StoreUnavailable):
                await till.reserve(far, 5).__aenter__()
        assert till.ledger.unsettled == before


async def test_stopped_with_nowhere_to_write(store_url: str, tmp_path: Path) -> None:
    """What neither the store nor the disk takes is told of when the worker stops."""
    told: list[tuple[str, dict[str, object]]] = []

    def alarm(event: str, **fields: object) -> None:
        told.append((event, fields))

    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file")
    async with (
        open_wire(store_url) as (wire, store),
        open_till(store_url, store, alarm=alarm, journal=journal) as till,
    ):
        access, meter = await till.access(), Meter()
        async with till.reserve(access, 5, meter):
            meter.used(3)
            wire.cut()
        await until(lambda: told)
        await till.ledger.stop(0)
        assert told[-1] == ("charges_lost", {"unwritten": 1})


async def first_late(wire: Wire, access: Any, request: Any) -> Any:
    """What comes of a request whose reserve is held on its way, and sent again."""
    wire.hold = access.key.id.encode()
    task = asyncio.create_task(request)
    await wire.held.wait()
    wire.hold = None
    return await task


async def test_a_reserve_that_comes_when_all_is_over(store_url: str) -> None:
    """Of a reserve that was sent again the first may come after the settlement: it is void."""
    async with open_wire(store_url, GATEWAY) as (wire, store), open_till(store_url, store) as till:
        access = await till.access()
        await first_late(wire, access, end(till, access))
        await till.ledger.settled()
        wire.release()
        await wire.passed.wait()
        assert till.scripts.contents().leases == {}
        assert rows(till) == ["1 3 0 0 0 0 0"]


async def test_a_refused_reserve_that_comes_later(store_url: str) -> None:
    """Of a reserve that was refused when it was sent again the first is void, too."""
    async with open_wire(store_url, GATEWAY) as (wire, store), open_till(store_url, store) as till:
        access = await till.access("8 tokens/day")
        async with till.reserve(access, 6):
            with pytest.raises(LimitExceeded):
                await first_late(wire, access, till.reserve(access, 5).__aenter__())
        await till.ledger.settled()
        wire.release()
        await wire.passed.wait()
        assert till.scripts.contents().leases == {}


async def test_a_note_that_the_store_has_outrun(store_url: str, tmp_path: Path) -> None:
    """What was noted of a stream in an outage is no charge once the store can be told again, also
    while the journal has other charges to keep.
    """
    journal = Journal(tmp_path)
    async with (
        divided(store_url, journal=journal) as (wire, _, till),
        open_till(store_url) as heir,
    ):
        far, near, meter = await till.access(team="far"), await till.access(), Meter()
        async with till.reserve(near, 90, meter) as lease:
            async with till.reserve(far, 5):
                wire.cut()
            await until(lambda: journal.entries)
            meter.used(20)
            for untold in ([lease], []):
                await till.ledger._settlements.note(untold)
            assert journal._file is not None
            os.close(journal._file)  # as a process that is killed does
            journal._file = None
            assert await replay(heir.store, tmp_path, time.time()) == Replayed(settled=1)
            assert lease.id in till.scripts.contents().leases
