"""The ledger: the worst case is reserved before, what was used is settled once after.

`reserve` is a context manager. Leaving it, however that happens, puts the settlement into
the ledger's own queue, which batches, retries while the store is away, keeps what waits in a
journal, and is waited for when the worker stops. A reservation lives under a lease that this
module renews; should the worker die, any gateway's next call for the team charges its last
count and frees the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any, Final

from proxy.access import Access
from proxy.domain.errors import GatewayError, LimitExceeded, StoreUnavailable, Unauthorized
from proxy.domain.identity import Bound
from proxy.domain.meter import StreamMeter
from proxy.domain.quota import State, failures, refusal
from proxy.domain.usage import Estimate
from proxy.store.client import Argument, Store, end_tasks
from proxy.store.journal import Entry, Journal
from proxy.store.keyring import KeyRing
from proxy.store.layout import team_keys
from proxy.store.lease import Lease as Lease  # its users find it here
from proxy.store.lease import to_renew, to_reserve, to_settle

LEASE: Final = 30.0  # seconds
_BATCH: Final = 64
_SWEEP_AT_ONCE: Final = 100
_REOPENINGS: Final = 3
_RETRY_FIRST: Final = 0.05  # seconds
_RETRY_LAST: Final = 2.0

_EXPIRED = "This API key has expired. Ask your platform team for a new one."

#: Told of every lease that is over, with its charge set.
Observer = Callable[[Lease], None]


class Ledger:
    """Reservations of this worker; the truth is in the store.

    `lease` is how long, in seconds, a reservation outlives its worker; it is renewed three
    times as often.
    """

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        *,
        support: str = "",
        observer: Observer | None = None,
        lease: float = LEASE,
        journal: Journal | None = None,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._support = support
        self._observer = observer
        self._seconds = lease
        self._journal = journal
        self._live: dict[str, Lease] = {}
        self._ended: asyncio.Queue[Lease] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def live(self) -> int:
        """Reservations held by this worker."""
        return len(self._live)

    @property
    def reserved_tokens(self) -> int:
        """Tokens held by the reservations of this worker."""
        return sum(lease.estimate.amounts.of("tokens") for lease in self._live.values())

    @property
    def unsettled(self) -> int:
        """Settlements that wait for the store."""
        return self._ended.qsize()

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._settle_forever(), name="ledger-settle"),
            asyncio.create_task(self._renew_forever(), name="ledger-renew"),
        ]

    async def settled(self) -> None:
        """Wait until the store has taken every settlement so far."""
        await self._ended.join()

    async def stop(self, deadline: float = 10.0) -> None:
        """Wait for every settlement, at most `deadline` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.settled(), deadline)
        await end_tasks(*self._tasks)
        if self._journal is not None:
            self._journal.close()

    @asynccontextmanager
    async def reserve(
        self, access: Access, model: str, provider: str, estimate: Estimate, meter: StreamMeter
    ) -> AsyncIterator[Lease]:
        """Hold the worst case for the length of the block.

        Raises LimitExceeded, Unauthorized or Forbidden where the store's records say so, and
        StoreUnavailable.
        """
        lease = Lease(secrets.token_hex(12), access, model, provider, estimate, meter)
        try:
            await self._reserve(lease)
        except LimitExceeded:
            raise
        except BaseException:
            # It may have been made all the same, and nothing was used: give it back.
            lease.made = False
            lease.finish()
            self._ended.put_nowait(lease)
            raise
        self._live[lease.id] = lease
        try:
            yield lease
        finally:
            if lease.drain is None:
                self._end(lease)
            else:
                lease.drain.add_done_callback(lambda _: self._end(lease))

    async def _reserve(self, lease: Lease) -> None:
        keys = team_keys(lease.team)
        for _ in range(_REOPENINGS):
            bounds = lease.access.binding(lease.model)
            arguments = to_reserve(lease, self._seconds, bounds)
            reply = await self._store.run("reserve", keys, *arguments)
            verdict = reply[0].decode()
            if verdict == "stale":
                lease.access = self._keyring.reopen(lease.access, reply[1], reply[2])
                continue
            if verdict == "expired":
                raise Unauthorized(_EXPIRED)
            if verdict == "gone":
                raise StoreUnavailable("The gateway's store answered too late. Try again.")
            lease.now, lease.states = reply[1], _states(bounds, reply[2:])
            if verdict == "refused":
                raise refusal(lease.states, lease.estimate.amounts, lease.now, self._support)
            lease.observed = verdict == "observed"
            return
        raise StoreUnavailable("The key is being changed right now. Try again.")

    async def peek(self, team: str, bounds: tuple[Bound, ...]) -> tuple[int, tuple[State, ...]]:
        """The time in ms, and what the given limits of a team have used and reserved."""
        arguments = [word for bound in bounds for word in bound.arguments]
        reply = await self._store.run("peek", team_keys(team), "", *arguments)
        return reply[0], _states(bounds, reply[1:])

    async def sweep(self, team: str) -> int:
        """Free a team's leases that have run out; how many they were."""
        return int(await self._store.run("sweep", team_keys(team), "", _SWEEP_AT_ONCE))

    def refused_by(self, lease: Lease) -> LimitExceeded | None:
        """What would have been said had the plan not been `enforce: false`."""
        if not lease.observed or not failures(lease.states, lease.estimate.amounts):
            return None
        return refusal(lease.states, lease.estimate.amounts, lease.now, self._support)

    def _end(self, lease: Lease) -> None:
        self._live.pop(lease.id, None)
        lease.finish()
        self._ended.put_nowait(lease)
        if self._observer is not None:
            self._observer(lease)

    async def _settle_forever(self) -> None:
        wait = _RETRY_FIRST
        while True:
            batch = [await self._ended.get()]
            while len(batch) < _BATCH and not self._ended.empty():
                batch.append(self._ended.get_nowait())
            # A settlement charges at most once, so it may be sent again.
            again = await self._settle(batch)
            await self._keep(again)
            for lease in again:
                self._ended.put_nowait(lease)
            if self._journal is not None and self._ended.empty():
                self._journal.clear()
            for _ in batch:
                self._ended.task_done()
            if len(again) < len(batch):
                wait = _RETRY_FIRST
            else:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY_LAST)

    async def _settle(self, batch: list[Lease]) -> list[Lease]:
        """Send settlements; those that the store did not take."""
        calls = [(team_keys(lease.team), to_settle(lease)) for lease in batch]
        try:
            results = await self._store.run_many("settle", calls)
        except StoreUnavailable:
            return batch
        pairs = zip(batch, results, strict=True)
        return [lease for lease, result in pairs if isinstance(result, StoreUnavailable)]

    async def _keep(self, leases: list[Lease]) -> None:
        """Write settlements to the journal, should this worker not live to make them."""
        new = [lease for lease in leases if not lease.kept]
        if self._journal is None or not new:
            return
        now = time.time()
        entries = [Entry(lease.team, to_settle(lease), now) for lease in new]
        with contextlib.suppress(OSError):  # a disk that is full: they wait in memory
            await asyncio.to_thread(self._journal.write, entries)
            for lease in new:
                lease.kept = True

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            by_team = attrgetter("team")
            found = itertools.groupby(sorted(self._live.values(), key=by_team), key=by_team)
            for team, leases in [(team, list(leases)) for team, leases in found]:
                try:
                    await self._renew(team, leases)
                except StoreUnavailable:
                    for lease in leases:
                        lease.missed = True

    async def _renew(self, team: str, leases: list[Lease]) -> None:
        arguments: list[Argument] = ["", int(self._seconds * 1000)]
        for lease in leases:
            arguments += to_renew(lease)
        reply = await self._store.run("renew", team_keys(team), *arguments)
        for lease, word in zip(leases, reply, strict=True):
            if word == b"gone" and not lease.missed:
                lease.lose(Unauthorized("The reservation of this request has run out."))
            elif word == b"expired":
                lease.lose(Unauthorized(_EXPIRED))
            elif word != b"live":
                # The store having been away is no reason to end a stream: it settles late.
                await self._look_again(lease)

    async def _look_again(self, lease: Lease) -> None:
        try:
            lease.access = await self._keyring.reload(lease.access)
        except StoreUnavailable:
            return
        except GatewayError as error:
            lease.lose(error)


def _states(bounds: tuple[Bound, ...], figures: list[Any]) -> tuple[State, ...]:
    return tuple(
        State(bound, *figures[3 * index : 3 * index + 3]) for index, bound in enumerate(bounds)
    )
