"""The ledger: the worst case is reserved before, what was used is settled once after.

`reserve` is a context manager. Leaving it, however that happens, puts the settlement into
the ledger's own queue, which batches, retries while the store is away, and is waited for
when the worker stops. A reservation lives under a lease that this module renews; should
the worker die, any gateway's next call for the team charges its last count and frees the
rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.access import Access
from proxy.domain.errors import GatewayError, LimitExceeded, StoreUnavailable, Unauthorized
from proxy.domain.identity import Bound
from proxy.domain.meter import StreamMeter
from proxy.domain.quota import State, failures, refusal
from proxy.domain.usage import Amounts, Charge, Estimate, charge
from proxy.store.client import Argument, Store
from proxy.store.keyring import KeyRing
from proxy.store.layout import team_keys

LEASE: Final = 30.0  # seconds
_BATCH: Final = 64
_SWEEP_AT_ONCE: Final = 100
_REOPENINGS: Final = 3


@dataclass(slots=True, eq=False)
class Lease:
    """One live reservation.

    `states` are the limits as they were just before it. `charge` is there once it is over.
    `lost` is called with the reason when the store ends it: the stream must end too.
    Where `drain` is set, it settles when that task is over, not when the block is left.
    """

    id: str
    access: Access
    model: str
    provider: str
    estimate: Estimate
    meter: StreamMeter
    states: tuple[State, ...]
    now: int
    observed: bool = False
    charge: Charge | None = None
    lost: Callable[[GatewayError], None] | None = None
    drain: asyncio.Task[Any] | None = field(default=None, repr=False)


#: Told of every lease that is over, with its charge set.
Observer = Callable[[Lease], None]


class Ledger:
    """Reservations of this worker; the truth is in the store."""

    def __init__(
        self, store: Store, keyring: KeyRing, *, support: str = "", observer: Observer | None = None
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._support = support
        self._observer = observer
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
        """Settlements that the store has not yet taken."""
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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def reserve(
        self, access: Access, model: str, provider: str, estimate: Estimate, meter: StreamMeter
    ) -> AsyncIterator[Lease]:
        """Hold the worst case for the length of the block.

        Raises LimitExceeded, Unauthorized or Forbidden where the store's records say so, and
        StoreUnavailable.
        """
        lease_id = secrets.token_hex(12)
        try:
            lease = await self._reserve(lease_id, access, model, provider, estimate, meter)
        except (StoreUnavailable, asyncio.CancelledError):
            # It may have been made all the same, and nothing was used: give it back.
            self._give_back(lease_id, access, model, provider, estimate, meter)
            raise
        self._live[lease.id] = lease
        try:
            yield lease
        finally:
            if lease.drain is None:
                self._end(lease)
            else:
                lease.drain.add_done_callback(lambda _: self._end(lease))

    async def _reserve(
        self,
        lease_id: str,
        access: Access,
        model: str,
        provider: str,
        estimate: Estimate,
        meter: StreamMeter,
    ) -> Lease:
        for _ in range(_REOPENINGS):
            bounds = access.binding(model)
            reply = await self._store.run(
                "reserve",
                team_keys(access.team.name),
                *_reservation(lease_id, access, model, provider, estimate.amounts, bounds),
            )
            verdict = reply[0].decode()
            if verdict == "stale":
                access = self._keyring.reopen(access, reply[1], reply[2])
                continue
            if verdict in ("expired", "gone"):
                raise Unauthorized("This API key has expired. Ask your platform team for a new one")
            now, states = reply[1], _states(bounds, reply[2:])
            if verdict == "refused":
                raise refusal(states, estimate.amounts, now, self._support)
            return Lease(
                id=lease_id,
                access=access,
                model=model,
                provider=provider,
                estimate=estimate,
                meter=meter,
                states=states,
                now=now,
                observed=verdict == "observed",
            )
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

    def _give_back(
        self,
        lease_id: str,
        access: Access,
        model: str,
        provider: str,
        estimate: Estimate,
        meter: StreamMeter,
    ) -> None:
        lease = Lease(lease_id, access, model, provider, estimate, meter, (), 0)
        lease.charge = charge(estimate, meter.outcome())
        self._ended.put_nowait(lease)

    def _end(self, lease: Lease) -> None:
        self._live.pop(lease.id, None)
        lease.charge = charge(lease.estimate, lease.meter.outcome())
        self._ended.put_nowait(lease)
        if self._observer is not None:
            self._observer(lease)

    async def _settle_forever(self) -> None:
        wait = 0.05
        while True:
            batch = [await self._ended.get()]
            while len(batch) < _BATCH and not self._ended.empty():
                batch.append(self._ended.get_nowait())
            while True:
                try:
                    await self._store.run_many("settle", [_settlement(lease) for lease in batch])
                except StoreUnavailable:
                    # A settlement charges at most once, so the batch may be sent again whole.
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, 2.0)
                else:
                    wait = 0.05
                    break
            for _ in batch:
                self._ended.task_done()

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 3)
            by_team = itertools.groupby(sorted(self._live.values(), key=_team_of), key=_team_of)
            for team, leases in [(team, list(leases)) for team, leases in by_team]:
                # The store being away is no reason to end a stream: it settles late.
                with contextlib.suppress(StoreUnavailable):
                    await self._renew(team, leases)

    async def _renew(self, team: str, leases: list[Lease]) -> None:
        arguments: list[Argument] = []
        for lease in leases:
            access = lease.access
            so_far = charge(lease.estimate, lease.meter.outcome()).amounts
            arguments += [lease.id, access.team_blob, access.key_blob, *_numbers(so_far)]
        reply = await self._store.run("renew", team_keys(team), "", int(LEASE * 1000), *arguments)
        for lease, word in zip(leases, reply, strict=True):
            if word == b"gone":
                _lose(lease, Unauthorized("The reservation of this request has run out."))
            elif word == b"changed":
                await self._look_again(lease)

    async def _look_again(self, lease: Lease) -> None:
        try:
            lease.access = await self._keyring.reload(lease.access)
        except StoreUnavailable:
            return
        except GatewayError as error:
            _lose(lease, error)


def _lose(lease: Lease, reason: GatewayError) -> None:
    if lease.lost is not None:
        lease.lost(reason)


def _team_of(lease: Lease) -> str:
    return lease.access.team.name


def _numbers(amounts: Amounts) -> tuple[int, ...]:
    return amounts.requests, amounts.input, amounts.output, amounts.images, amounts.usd


def _reservation(
    lease_id: str,
    access: Access,
    model: str,
    provider: str,
    amounts: Amounts,
    bounds: Iterable[Bound],
) -> list[Argument]:
    ends = access.key.expires_at
    return [
        "",
        lease_id,
        int(LEASE * 1000),
        access.key.id,
        model,
        provider,
        access.team_blob,
        access.key_blob,
        "" if ends is None else ends * 1000,
        "0" if access.enforce else "1",
        *_numbers(amounts),
        *(word for bound in bounds for word in bound.arguments),
    ]


def _settlement(lease: Lease) -> tuple[tuple[str, ...], list[Argument]]:
    spent = lease.charge
    if spent is None:
        raise RuntimeError("a lease is settled once it is over")
    return team_keys(lease.access.team.name), [
        "",
        lease.id,
        lease.provider,
        *_numbers(spent.amounts),
        spent.cached,
        spent.image,
    ]


def _states(bounds: tuple[Bound, ...], figures: list[Any]) -> tuple[State, ...]:
    return tuple(
        State(bound, *figures[3 * index : 3 * index + 3]) for index, bound in enumerate(bounds)
    )
