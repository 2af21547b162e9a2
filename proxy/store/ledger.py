"""The ledger: the worst case is reserved before, what was used is settled once after.

A lease is a context manager. Leaving it, however that happens, hands the lease to the
settlements. A reservation lives under a lease that is renewed; should the worker die, any
gateway's next call for the team charges its last count and frees the rest.

While the store is away, and where the config allows it, a worker admits a little on its own
account (`domain/grace.py`); what comes of it is posted when the store is back.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Mapping
from copy import copy
from typing import Final

from proxy.access import Access
from proxy.domain.errors import LimitExceeded, StoreUnavailable, Unauthorized
from proxy.domain.estimate import least, shrink
from proxy.domain.grace import Grace
from proxy.domain.identity import Bound
from proxy.domain.meter import StreamMeter
from proxy.domain.quota import Spent, State, failures, refusal
from proxy.domain.usage import Estimate, charge
from proxy.store.client import Store, end_tasks
from proxy.store.figures import CLOCK, pack_limits
from proxy.store.journal import Journal
from proxy.store.keyring import KeyRing
from proxy.store.layout import team_keys
from proxy.store.lease import Lease as Lease  # its users find it here
from proxy.store.lease import states_of, terms_of, to_reserve
from proxy.store.marks import Marks
from proxy.store.renewals import EXPIRED, Renewals
from proxy.store.settlements import Alarm, Settlements, silent

LEASE: Final = 30.0  # seconds
_SWEEP_AT_ONCE: Final = 100
_REOPENINGS: Final = 3
_SHRINKINGS: Final = 3
#: Live leases: with fewer than these a settlement is sent at once, so that it is done before the
#: next reservation comes and waits for it; with more it saves a write to send both together.
_FEW: Final = 8

_NO_GRACE = (
    "The gateway's store cannot be reached, and what may be used without it is used up. Try again."
)
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
        marks: Marks | None = None,
        grace: Grace | None = None,
        alarm: Alarm = silent,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._support = support
        self._observer = observer
        self._seconds = lease
        self._marks = marks or Marks()
        self._grace = grace
        self._live: dict[str, Lease] = {}
        self._ids = secrets.token_hex(8)  # no two workers have the same
        self._numbers = itertools.count()
        self._settlements = Settlements(store, self._marks, journal, alarm)
        self._renewing: asyncio.Task[None] | None = None

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
        return self._settlements.waiting

    async def start(self) -> None:
        live, store = self._live.values(), self._store
        renewals = Renewals(store, self._keyring, self._settlements, live, self._seconds)
        self._settlements.start()
        self._renewing = asyncio.create_task(renewals.forever(), name="ledger-renew")

    async def settled(self) -> None:
        """Wait until the store has taken every settlement so far."""
        await self._settlements.made()

    async def stop(self, deadline: float = 10.0) -> None:
        """Wait for every settlement, at most `deadline` seconds; the journal keeps the rest."""
        if self._renewing is not None:
            await end_tasks(self._renewing)
        await self._settlements.stop(deadline)

    def reserve(
        self, access: Access, model: str, provider: str, estimate: Estimate, meter: StreamMeter
    ) -> Lease:
        """Hold the worst case for the length of a block.

        Entering it raises LimitExceeded, Unauthorized or Forbidden where the store's records say
        so, and StoreUnavailable.
        """
        id = f"{self._ids}{next(self._numbers)}"
        return Lease(self, id, access, access.team.name, model, provider, estimate, meter)

    async def admit(self, lease: Lease) -> Lease:
        """Make a reservation, or let it in without the store."""
        # If not, nothing is sent, and nothing is to be given back.
        there = self._store.there(team_keys(lease.team)[0])
        try:
            if not await self._take(lease):
                await self._take_less(lease)
        except StoreUnavailable as error:
            if there:
                self._give_back(copy(lease))  # what comes of it has an id of its own
            self._admit_without(lease, error)
        except BaseException as error:
            if lease.again or not isinstance(error, LimitExceeded):
                self._give_back(lease)
            raise
        self._live[lease.id] = lease
        return lease

    def _give_back(self, lease: Lease) -> None:
        """Undo a reservation that may have been made all the same; nothing was used."""
        lease.made = False
        lease.charge = charge(lease.estimate, lease.outcome())
        self._settlements.put(lease)

    def _admit_without(self, lease: Lease, error: StoreUnavailable) -> None:
        """Let the request in under the grace of this worker, or raise the error."""
        if self._grace is None:
            raise error
        access, asked, now = lease.access, lease.estimate.amounts, int(time.time() * 1000)
        bounds = access.binding(lease.model) if access.enforce else ()
        grace = self._grace.admit(lease.team, bounds, asked, now)
        if grace is None:
            raise StoreUnavailable(_NO_GRACE, headers=error.headers) from error
        lease.id = f"{self._ids}{next(self._numbers)}"
        lease.terms, lease.figures, lease.again = None, (), False  # they were of the other id
        lease.now, lease.grace = now, grace

    async def _take_less(self, lease: Lease) -> None:
        """What is left, where the plans say so, and raise where that has no room either."""
        whole = lease.estimate
        for _ in range(_SHRINKINGS):
            smaller = shrink(whole, lease.states) if lease.access.shrink else None
            if smaller is None:
                break
            lease.estimate = smaller
            if await self._take(lease):  # others may have been faster
                return
        self._keyring.found_spent(lease.access, Spent(lease.states, lease.now, self._support))
        shrunk = lease.access.shrink
        asked = (least(whole) if shrunk else whole).amounts
        raise refusal(lease.states, asked, lease.now, self._support, shrunk=shrunk)

    async def _take(self, lease: Lease) -> bool:
        """Reserve the lease's estimate; False where it has no room."""
        store, marks, team = self._store, self._marks, lease.team
        if time.time() >= lease.access.until:  # a grant has ended since the key was looked up
            old = lease.access
            lease.access = self._keyring.reopen(old, old.team_blob, old.key_blob)
        for _ in range(_REOPENINGS):
            lease.terms = terms = terms_of(lease, self._seconds)
            before, resent = marks.before(team), store.resent.count
            reply = await store.run_packed("reserve", terms.key, to_reserve(lease, terms))
            if store.resent.count != resent:
                lease.again = True
            verdict = reply[0]
            if verdict == b"stale":
                lease.access = self._keyring.reopen(lease.access, reply[1], reply[2])
                continue
            if verdict == b"expired":
                raise Unauthorized(EXPIRED)
            if verdict == b"gone":
                raise StoreUnavailable("The gateway's store answered too late. Try again.")
            marks.told(team, before, reply[2])
            lease.now, lease.figures = reply[1], reply[3:]
            lease.observed = verdict == b"observed"
            return bool(verdict != b"refused")
        raise StoreUnavailable("The key is being changed right now. Try again.")

    async def peek(self, team: str, bounds: tuple[Bound, ...]) -> tuple[int, tuple[State, ...]]:
        """The time in ms, and what the given limits of a team have used and reserved."""
        before = self._marks.before(team)
        reply = await self._store.run("peek", team_keys(team), *_to_peek(bounds))
        self._marks.told(team, before, reply[1])
        return reply[0], states_of(bounds, reply[2:])

    async def look(self, wanted: Mapping[str, tuple[Bound, ...]]) -> dict[str, tuple[State, ...]]:
        """The same of several teams, in one round trip to each server; left out are those of
        which the store could not be asked.
        """
        before = {team: self._marks.before(team) for team in wanted}
        calls = [(team_keys(team), _to_peek(bounds)) for team, bounds in wanted.items()]
        try:
            replies = await self._store.run_many("peek", calls)
        except StoreUnavailable:
            return {}
        found = {}
        for (team, bounds), reply in zip(wanted.items(), replies, strict=True):
            if not isinstance(reply, StoreUnavailable):
                self._marks.told(team, before[team], reply[1])
                found[team] = states_of(bounds, reply[2:])
        return found

    async def sweep(self, team: str) -> int:
        """Free a team's leases that have run out; how many they were."""
        return int(await self._store.run("sweep", team_keys(team), "", _SWEEP_AT_ONCE))

    def refused_by(self, lease: Lease) -> LimitExceeded | None:
        """What would have been said had the plan not been `enforce: false`."""
        if not lease.observed or not failures(lease.states, lease.estimate.amounts):
            return None
        return refusal(lease.states, lease.estimate.amounts, lease.now, self._support)

    def end(self, lease: Lease) -> None:
        """A lease is over: settle it."""
        self._live.pop(lease.id, None)
        lease.charge = charge(lease.estimate, lease.outcome())
        if lease.grace is not None and self._grace is not None and lease.charge is not None:
            self._grace.end(lease.grace, lease.charge.amounts)
        self._settlements.put(lease, soon=len(self._live) < _FEW)
        if self._observer is not None:
            self._observer(lease)


def _to_peek(bounds: tuple[Bound, ...]) -> list[str | bytes]:
    counters = [CLOCK]
    return ["", pack_limits(bounds, counters), *counters]
