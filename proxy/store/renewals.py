"""Keeping this worker's leases alive, and ending the streams whose lease the store takes away."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection
from operator import attrgetter
from typing import Final

from proxy.domain.errors import GatewayError, StoreUnavailable, Unauthorized
from proxy.store.client import Argument, Store
from proxy.store.keyring import KeyRing
from proxy.store.layout import team_keys
from proxy.store.lease import Lease, to_renew
from proxy.store.settlements import Settlements

_AGAIN: Final = 1.0  # seconds, while the store is away
_AT_ONCE: Final = 100  # leases in one call: others wait for the store meanwhile

EXPIRED: Final = "This API key has expired. Ask your platform team for a new one."


class Renewals:
    """Those of one worker, three in the length of a lease (seconds)."""

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        settlements: Settlements,
        live: Collection[Lease],
        seconds: float,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._settlements = settlements
        self._live = live
        self._seconds = seconds
        self._noted = 0.0

    async def forever(self) -> None:
        wait = self._seconds / 3
        while True:
            await asyncio.sleep(wait)
            missed = await self._renew_all()
            # Of what the store does not hold, only the journal would know.
            alone = (lease for lease in self._live if lease.grace is not None or lease.adrift)
            untold = [*missed, *alone]
            now = time.monotonic()
            if not untold or now - self._noted >= self._seconds / 3:
                self._noted = now if untold else 0.0
                await self._settlements.note(untold)
            wait = min(_AGAIN, self._seconds / 3) if missed else self._seconds / 3

    async def _renew_all(self) -> list[Lease]:
        """Renew every reservation; those of which the store could not be told."""
        missed: list[Lease] = []
        reserved = [lease for lease in self._live if lease.grace is None]
        by_team = attrgetter("team")
        found = itertools.groupby(sorted(reserved, key=by_team), key=by_team)
        teams = [(team, list(leases)) for team, leases in found]
        for team, leases in ((team, some) for team, all in teams for some in _parts(all)):
            try:
                await self._renew(team, leases)
            except StoreUnavailable:
                missed += (lease for lease in leases if lease.charge is None)
        for lease in missed:
            lease.missed = True
        return missed

    async def _renew(self, team: str, leases: list[Lease]) -> None:
        arguments: list[Argument] = ["", int(self._seconds * 1000)]
        for lease in leases:
            arguments += to_renew(lease)
        reply = await self._store.run("renew", team_keys(team), *arguments)
        for lease, word in zip(leases, reply, strict=True):
            if lease.charge is not None:
                continue  # over meanwhile
            if word == b"gone" and not lease.missed:
                lease.lose(Unauthorized("The reservation of this request has run out."))
            elif word == b"expired":
                lease.lose(Unauthorized(EXPIRED))
            elif word != b"live":
                # The store having been away is no reason to end a stream: it settles late.
                lease.adrift = word == b"gone"
                await self._look_again(lease)

    async def _look_again(self, lease: Lease) -> None:
        try:
            lease.access = await self._keyring.reload(lease.access)
        except StoreUnavailable:
            return
        except GatewayError as error:
            lease.lose(error)


def _parts(leases: list[Lease]) -> list[list[Lease]]:
    return [leases[at : at + _AT_ONCE] for at in range(0, len(leases), _AT_ONCE)]
