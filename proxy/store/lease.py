"""One reservation as the gateway holds it, and as the ledger's scripts take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.access import Access
from proxy.domain.errors import GatewayError
from proxy.domain.identity import Bound
from proxy.domain.meter import StreamMeter
from proxy.domain.quota import State
from proxy.domain.usage import Amounts, Charge, Estimate, charge
from proxy.store.client import Argument


@dataclass(slots=True, eq=False)
class Lease:
    """One live reservation.

    `states` are the limits as they were just before it, at `now` (ms). `charge` is there once
    it is over. `lost` is called with the reason when the store ends it: the stream must end
    too. Where `drain` is set, it settles when that task is over, not when the block is left.
    """

    id: str
    access: Access
    model: str
    provider: str
    estimate: Estimate
    meter: StreamMeter
    states: tuple[State, ...] = ()
    now: int = 0
    observed: bool = False
    made: bool = True  # False: whether the store made it is not known
    missed: bool = False  # a renewal could not reach the store
    kept: bool = False  # its settlement is in the journal
    charge: Charge | None = None
    lost: Callable[[GatewayError], None] | None = None
    drain: asyncio.Task[Any] | None = field(default=None, repr=False)

    @property
    def team(self) -> str:
        return self.access.team.name

    def lose(self, reason: GatewayError) -> None:
        if self.lost is not None:
            self.lost(reason)

    def finish(self) -> None:
        """Fix the charge by what the meter knows now."""
        self.charge = charge(self.estimate, self.meter.outcome())


def to_reserve(lease: Lease, seconds: float, bounds: tuple[Bound, ...]) -> list[Argument]:
    """The arguments of reserve."""
    access = lease.access
    return [
        "",
        lease.id,
        int(seconds * 1000),
        access.key.id,
        lease.model,
        lease.provider,
        access.team_blob,
        access.key_blob,
        _end(access),
        "0" if access.enforce else "1",
        *_numbers(lease.estimate.amounts),
        *(word for bound in bounds for word in bound.arguments),
    ]


def to_renew(lease: Lease) -> list[Argument]:
    """A reservation's part of the arguments of renew."""
    access = lease.access
    so_far = charge(lease.estimate, lease.meter.outcome()).amounts
    return [lease.id, access.team_blob, access.key_blob, _end(access), *_numbers(so_far)]


def to_settle(lease: Lease) -> tuple[str | int, ...]:
    """The arguments of settle, for a lease that is finished."""
    spent = lease.charge
    if spent is None:
        raise RuntimeError("a lease is settled once it is over")
    void = "0" if lease.made else "1"
    numbers = _numbers(spent.amounts)
    return "", lease.id, lease.provider, *numbers, spent.cached, spent.image, void


def _end(access: Access) -> Argument:
    """When the key, or this secret of it, ends: ms, '' for never."""
    secrets = [s.expires_at for s in access.key.secrets if s.digest == access.digest]
    ends = [end for end in (access.key.expires_at, *secrets) if end is not None]
    return min(ends) * 1000 if ends else ""


def _numbers(amounts: Amounts) -> tuple[int, ...]:
    return amounts.requests, amounts.input, amounts.output, amounts.images, amounts.usd
