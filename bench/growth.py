"""What the store spends on a reservation, and what it keeps, as there are more teams.

    python -m bench.growth [--teams 1,10,100,1000] [--streams 4000] [--limits 4]

A Valkey with an AOF has one core to itself; the gateway's own ledger drives it from another, with
no web server around it. Streams are shared by the teams: all are reserved, then renewed, then
settled. CPU is what the scheduler counted for the store's threads; memory is its `used_memory`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench import kernel
from bench.gateways import LIMITS, Place, valkey
from proxy.access import Access
from proxy.config import parse_config
from proxy.domain.limits import parse_limit
from proxy.domain.usage import Amounts, Estimate, Outcome, Phase, Price, Usage
from proxy.rules import build_plans
from proxy.store.client import Store
from proxy.store.directory import Directory
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Ledger
from proxy.store.renewals import Renewals

PEPPER = "a pepper for the bench"
AT_ONCE = 64
LOOKS = 20
ENOUGH = 1000  # teams, beside which what the store needs in any case is little
CONFIG = """
store: {url: redis://127.0.0.1}
keys: {pepper: a pepper for the bench}
providers: {openai: {base_url: https://api.openai.com/v1, api_key: sk-bench}}
models: {gpt-4o: {targets: [{provider: openai}], price: {input: 2.5, output: 10}}}
"""
PRICE = Price(2_500, 10_000, 1_250, 0)


class Meter:
    """A stream that was answered as most are."""

    def outcome(self) -> Outcome:
        return Outcome(Phase.COMPLETE, Usage(300, 200, 0), 200)


@dataclass
class Row:
    """Of `teams`: the store's microseconds for each step of a stream, and for one worker's look at
    one team; bytes of a stream while it is open, and of all its steps in the AOF; bytes of a team
    with its key, before and after its first stream.
    """

    teams: int
    reserve: float
    renew: float
    settle: float
    look: float
    stream_bytes: float
    disk_bytes: float
    team_bytes: float
    used_bytes: float

    @property
    def streams_a_second(self) -> float:
        """Streams of less than a renewal, on one core of the store."""
        return 1e6 / (self.reserve + self.settle)

    @property
    def open_streams(self) -> float:
        """That are renewed each 10 s by one core, and begin and end once a minute."""
        return 1e6 / (self.renew / 10 + (self.reserve + self.settle) / 60)


class Measured:
    """CPU of the store's process around a block, and its memory."""

    def __init__(self, pid: int, store: Store) -> None:
        self._pid = pid
        self._store = store

    async def of(self, count: int, work: Awaitable[Any]) -> float:
        before = kernel.cpu([self._pid])
        await work
        return (kernel.cpu([self._pid]) - before) / 1000 / count

    async def told(self, name: str) -> int:
        """A number that INFO tells."""
        (info,) = (await self._store.each("INFO")).values()
        assert isinstance(info, dict)
        return int(info[name])

    async def memory(self) -> int:
        return await self.told("used_memory")


def parts(whole: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(whole)
    while some := list(itertools.islice(iterator, AT_ONCE)):
        yield some


async def each(do: Callable[[Any], Awaitable[Any]], whole: Iterable[Any]) -> list[Any]:
    """So many at once, as the streams of a busy worker come."""
    found: list[Any] = []
    for some in parts(whole):
        found += await asyncio.gather(*map(do, some))
    return found


@asynccontextmanager
async def opened(url: str) -> Any:
    store = Store.open(url)
    try:
        await store.check_schema()
        yield store
    finally:
        await store.close()


async def measure(url: str, pid: int, teams: int, streams: int, limits: int) -> Row:
    plans = build_plans(parse_config(CONFIG, "growth.yaml", {}))
    async with opened(url) as store:
        await store.redis.flushall()
        await store.check_schema()
        directory, keys = Directory(store, (PEPPER,)), KeyRing(store, (PEPPER,), plans)
        measured = Measured(pid, store)
        bounds = tuple(map(parse_limit, LIMITS[:limits]))
        empty = await measured.memory()

        async def make(number: int) -> Access:
            name = f"team-{number}"
            await directory.create_team(name, limits=bounds)
            made = await directory.create_key(name, "ci", limits=bounds)
            return await keys.authenticate(made.secret)

        accesses = await each(make, range(teams))
        made = await measured.memory()
        ledger = Ledger(store, keys)
        ledger._settlements.start()
        amounts = Amounts(1, 400, 1000, 1, 400 * PRICE.input + 1000 * PRICE.output)
        estimate = Estimate(amounts, 400, 0, PRICE)
        leases = [
            ledger.reserve(accesses[n % teams], "gpt-4o", "openai", estimate, Meter())  # type: ignore[arg-type]
            for n in range(streams)
        ]
        written = await measured.told("aof_current_size")
        reserve = await measured.of(streams, each(lambda lease: lease.__aenter__(), leases))
        open_ = await measured.memory()
        renewals = Renewals(store, keys, ledger._settlements, ledger._live.values(), 30.0)
        renew = await measured.of(streams, renewals._renew_all())

        async def settle() -> None:
            for some in parts(leases):
                for lease in some:
                    ledger.end(lease)
                await ledger.settled()

        spent = await measured.of(streams, settle())
        look = await measured.of(LOOKS * teams, looks(directory, ledger, accesses))
        over = await measured.memory()
        written = await measured.told("aof_current_size") - written
        await ledger.stop()
        return Row(
            teams,
            reserve,
            renew,
            spent,
            look,
            (open_ - over) / streams,
            written / streams,
            (made - empty) / teams,
            (over - empty) / teams,
        )


async def looks(directory: Directory, ledger: Ledger, accesses: list[Access]) -> None:
    """What every worker does with every team each 5 s, so often."""
    for some in [*parts(accesses)] * LOOKS:
        await directory.find_teams([access.team.name for access in some])
        await ledger.look({access.team.name: access.bounds[:2] for access in some})


def show(rows: list[Row]) -> None:
    table = Table(title="what a stream costs its store")
    for name in (
        "teams",
        "reserve µs",
        "renew µs",
        "settle µs",
        "look µs",
        "bytes a stream",
        "AOF bytes a stream",
        "bytes a team and key",
        "once used",
        "streams/s a core",
        "open streams a core",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            f"{row.teams:,}",
            *(f"{value:.1f}" for value in (row.reserve, row.renew, row.settle, row.look)),
            f"{row.stream_bytes:,.0f}",
            f"{row.disk_bytes:,.0f}",
            *(
                f"{value:,.0f}" if row.teams >= ENOUGH else ""
                for value in (row.team_bytes, row.used_bytes)
            ),
            f"{row.streams_a_second:,.0f}",
            f"{row.open_streams:,.0f}",
        )
    Console(width=130).print(table)


def main() -> int:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teams", default="1,10,100,1000")
    parser.add_argument("--streams", type=int, default=4000)
    parser.add_argument("--limits", type=int, default=len(LIMITS), choices=range(len(LIMITS) + 1))
    asked = parser.parse_args()
    core, other = kernel.cores()
    rows = []
    for teams in map(int, asked.teams.split(",")):
        with tempfile.TemporaryDirectory(prefix="vg-") as name:
            place = Place(Path(name), 0, False, core, other)
            with kernel.pinned(core), valkey(place) as (pid, url):
                time.sleep(0.2)  # its start is over
                row = measure(url, pid, teams, asked.streams, asked.limits)
                rows.append(uvloop.run(row))
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
