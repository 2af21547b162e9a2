"""One reservation as the gateway holds it, and as the ledger's scripts take it."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from proxy import logs
from proxy.access import Access
from proxy.domain.errors import GatewayError
from proxy.domain.grace import Admitted
from proxy.domain.identity import Bound
from proxy.domain.meter import StreamMeter
from proxy.domain.quota import State
from proxy.domain.ratelimits import Shown, limit_headers, shown_of
from proxy.domain.usage import Amounts, Charge, Estimate, Outcome, Phase, Price, charge
from proxy.store.commands import Argument, pack_head, pack_part
from proxy.store.figures import CHARGED, bucket_words, counters_of, pack_limits, script_words
from proxy.store.layout import team_keys

if TYPE_CHECKING:
    from proxy.store.ledger import Ledger


class Lease(Struct, eq=False):
    """One live reservation; as a block it is made, and settled when that is left.

    `provider` is who serves it, in whose row its charge stands. `figures` are those of its limits
    just before it, at `now` (ms). `charge` is there once it is over. `lost` is called with the
    reason when the store ends it: the stream must end too. Where `drain` is set, it settles when
    that task is over, not when the block is left. `grace` is what let it in while the store was
    away: it is no reservation, and posted when it is over.
    """

    ledger: Ledger
    id: str
    access: Access
    team: str
    model: str
    provider: str
    estimate: Estimate
    meter: StreamMeter
    terms: Terms | None = None  # of its reserve
    figures: Sequence[int] = ()  # used, reserved and amount of each of the terms' bounds
    now: int = 0
    observed: bool = False
    made: bool = True  # False: whether the store made it is not known
    again: bool = False  # its reserve was sent again: the first may come when all is over
    missed: bool = False  # a renewal could not reach the store
    adrift: bool = False  # meanwhile it ran out there
    kept: bool = False  # its settlement is in the journal
    mark: int = 0  # the last writing of its team that was known when its settlement was sent
    sent: bool = False  # its settlement may have reached the store
    refused_at: float | None = None  # since when (monotonic) a server that is there refuses it
    taken_before: int = 0  # settlements by then
    grace: Admitted | None = None
    charge: Charge | None = None
    lost: Callable[[GatewayError], None] | None = None
    drain: asyncio.Task[Any] | None = None

    __repr__ = object.__repr__  # none of what it holds is for a log

    def __aenter__(self) -> Awaitable[Lease]:
        return self.ledger.admit(self)

    async def __aexit__(self, *_: object) -> None:
        """Settle it now, or when what it drains is over."""
        if self.drain is None:
            self.ledger.end(self)
        else:
            self.drain.add_done_callback(lambda _: self.ledger.end(self))

    def serve(self, provider: str, price: Price) -> None:
        """Who serves it now, and at what price it is charged; none is above that of the estimate
        as it was reserved.
        """
        self.provider = provider
        if self.estimate.price != price:
            self.estimate = replace(self.estimate, price=price)

    @property
    def states(self) -> tuple[State, ...]:
        """The limits as they were just before it."""
        return states_of(self.terms.bounds, self.figures) if self.terms else ()

    def limit_headers(self) -> dict[str, str]:
        """What is left of the limits with it."""
        if self.terms is None:
            return {}
        return limit_headers(self.terms.shown, self.figures, self.estimate.amounts, self.now)

    def lose(self, reason: GatewayError) -> None:
        """The store has ended it. What fails of that is told, and costs no other lease."""
        if self.lost is None:
            return
        try:
            self.lost(reason)
        except Exception as error:
            logs.get().unexpected(error)

    def so_far(self) -> Charge:
        """What to charge should nothing more be heard of it: by then the upstream has likely been
        asked, though it may not have been yet.
        """
        outcome = self.outcome()
        if outcome.phase is Phase.NOT_CALLED:
            outcome = replace(outcome, phase=Phase.CALLED)
        return charge(self.estimate, outcome)

    def outcome(self) -> Outcome:
        """What the meter knows now.

        One that fails costs its client the reserve, and neither the settlement nor the
        leases of others.
        """
        try:
            return self.meter.outcome()
        except Exception:
            return Outcome(Phase.STREAMING, None, 0, hidden=True)


_OWN: Final = 2  # words: the id, the figures
_SETTLEMENT: Final = 4  # words: the id, the provider, the figures, whether a reserve may come
_FIGURES: Final = struct.Struct("<7d")
_TERMS: Final = struct.Struct("<3d")


#: Packed as `pack` would, in one go: what has always the same length brings it along.
_RESERVE: Final = b"%%b$%%d\r\n%%b\r\n$%d\r\n%%b\r\n%%b" % _FIGURES.size
_SETTLE: Final = b"%%b$%%d\r\n%%b\r\n$%%d\r\n%%b\r\n$%d\r\n%%b\r\n$1\r\n%%b\r\n" % CHARGED.size


@dataclass(frozen=True, slots=True)
class Terms:
    """What every reserve of an access for a model at a provider has in common, packed: the
    words before and after its own; and those before a settlement's own.
    """

    key: str  # one of the team's
    bounds: tuple[Bound, ...]
    shown: Shown
    head: bytes
    tail: bytes
    settle: bytes


def terms_of(lease: Lease, seconds: float) -> Terms:
    """Those of a lease; made once for its access, which is made anew when anything changes."""
    which = (lease.model, lease.provider, seconds)
    found: Terms | None = lease.access.derived.get(which)
    if found is None:
        found = lease.access.derived[which] = _terms(lease.access, *which)
    return found


def _terms(access: Access, model: str, provider: str, seconds: float) -> Terms:
    keys, bounds = team_keys(access.team.name), access.binding(model)
    counters = counters_of(access.key.id, model)
    end = key_end(access)
    ends = math.inf if end == "" else int(end)
    terms = _TERMS.pack(int(seconds * 1000), ends, not access.enforce)
    tail: tuple[Argument, ...] = (
        terms + pack_limits(bounds, counters),
        access.team_blob,
        access.key_blob,
        access.key.id,
        model,
        provider,
        *counters,
    )
    head, shown = pack_head("reserve", keys, _OWN + len(tail)), shown_of(bounds)
    settle = pack_head("settle", keys, _SETTLEMENT)
    return Terms(keys[0], bounds, shown, head, pack_part(*tail), settle)


def to_reserve(lease: Lease, terms: Terms) -> bytes:
    """The call of reserve, packed."""
    a, id = lease.estimate.amounts, lease.id.encode()
    # Should its worker be gone before it tells anything, the upstream has likely been asked.
    sent = lease.estimate.price.prompt(a.input)
    figures = _FIGURES.pack(
        a.requests, a.input, a.output, a.images, a.usd, a.input + a.output, sent
    )
    return _RESERVE % (terms.head, len(id), id, figures, terms.tail)


def to_renew(lease: Lease) -> list[Argument]:
    """A reservation's part of the arguments of renew."""
    access = lease.access
    so_far = _numbers(lease.so_far().amounts)
    return [lease.id, access.team_blob, access.key_blob, key_end(access), *so_far]


def to_settle(lease: Lease) -> tuple[str, str, bytes]:
    """The script that charges a lease that is over, a key of its team, and the call, packed."""
    terms, spent = lease.terms, lease.charge
    if terms is None or spent is None:
        script, arguments = settlement(lease)
        words, keys = script_words(script, arguments)[1:], team_keys(lease.team)
        return script, keys[0], pack_head(script, keys, len(words)) + pack_part(*words)
    a, id, provider = spent.amounts, lease.id.encode(), lease.provider.encode()
    figures = CHARGED.pack(
        a.requests, a.input, a.output, a.images, a.usd, spent.cached, spent.image
    )
    may_come = b"1" if lease.again or not lease.made else b"0"
    packed = _SETTLE % (terms.settle, len(id), id, len(provider), provider, figures, may_come)
    return "settle", terms.key, packed


def settlement(lease: Lease) -> tuple[str, tuple[str | int, ...]]:
    """The script that charges a lease, and its arguments; of one that is not over, its charge
    so far.
    """
    spent = lease.charge or lease.so_far()
    figures = (*_numbers(spent.amounts), spent.cached, spent.image)
    if lease.grace is None:
        may_come = "1" if lease.again or not lease.made else "0"
        return "settle", ("", lease.id, lease.provider, *figures, may_come)
    minutes = (b for b in lease.access.binding(lease.model) if b.limit.window == "minute")
    words = (word for bound in minutes for word in bucket_words(bound))
    whose = ("", lease.id, lease.access.key.id, lease.model, lease.provider, lease.now)
    return "post", (*whose, *figures, *words)


def states_of(bounds: Iterable[Bound], figures: Iterable[int]) -> tuple[State, ...]:
    """Limits and their figures, three to each."""
    rest = iter(figures)
    return tuple(map(State, bounds, rest, rest, rest))


def key_end(access: Access) -> Argument:
    """When the key, or this secret of it, ends: ms, '' for never."""
    secrets = [s.expires_at for s in access.key.secrets if s.digest == access.digest]
    ends = [end for end in (access.key.expires_at, *secrets) if end is not None]
    return min(ends) * 1000 if ends else ""


def _numbers(amounts: Amounts) -> tuple[int, ...]:
    return amounts.requests, amounts.input, amounts.output, amounts.images, amounts.usd
