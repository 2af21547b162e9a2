"""What a gateway does beside serving: it looks at every team now and then, and at itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from proxy.access import Access, Plan, open_access
from proxy.domain.errors import GatewayError, StoreUnavailable
from proxy.domain.grace import Grace, most_over
from proxy.domain.identity import Bound, KeyRecord, TeamRecord, encode_record
from proxy.domain.limits import ANY_MODEL
from proxy.store.client import end_tasks
from proxy.store.directory import DirectoryError
from proxy.store.grants import carry_grants
from proxy.store.journal import replay
from proxy.store.marks import Marks
from proxy.store.settlements import Alarm
from proxy.store.usage import first_kept, prune
from proxy.web.door import Door

# Seconds. A team that nobody has looked at for 15 s is taken for one whose store was away.
_LOOK_EVERY: Final = 5.0
_REPLAY_EVERY: Final = 15.0
_KEEP_EVERY: Final = 60.0
_SHOW_EVERY: Final = 0.5
_PRUNE_EVERY: Final = 3600.0
_TEAMS: Final = 64  # looked at in one round trip

#: How many of all workers look at a team each time, on average: else a thousand gateways' looks
#: would cost the store more than their streams. That for 15 s none does has a chance of e^-24.
_LOOKERS: Final = 8

Chore = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a gateway keeps beside the store. `retention` is in months; `used` has the accesses
    of the teams that used something of late.
    """

    plans: Mapping[str, Plan]
    journals: Path
    marks: Marks
    grace: Grace | None
    alarm: Alarm
    retention: int
    used: dict[str, Access] = field(default_factory=dict)


class House:
    """The chores of one gateway."""

    def __init__(
        self, door: Door, keeping: Keeping, draw: Callable[[], float] = random.random
    ) -> None:
        self._door = door
        self._keeping = keeping
        self._draw = draw
        self._workers = 1  # of all gateways
        self._heard: float | None = None  # since when the store is there, without a miss
        self._names: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin, and say how much may be used while the store is away. Raises StoreUnavailable."""
        await self.beat()
        if self._keeping.grace is not None:
            await self._announce(self._keeping.grace)
        chores: tuple[tuple[Chore, float], ...] = (
            (self.beat, _LOOK_EVERY),
            (self.look, _LOOK_EVERY),
            (self._door.switches.look, _LOOK_EVERY),
            (self.replay, _REPLAY_EVERY),
            (self.show_used, _SHOW_EVERY),
            (self.keep_marks, _KEEP_EVERY),
            (self.prune, _PRUNE_EVERY),
        )
        self._tasks = [asyncio.create_task(self._every(*chore)) for chore in chores]

    async def close(self) -> None:
        await end_tasks(*self._tasks)
        await self._door.heart.stop()
        with contextlib.suppress(OSError):
            await self.keep_marks()

    async def beat(self) -> None:
        """Say that this worker lives, and count those that do."""
        grace = self._keeping.grace
        try:
            alive = await self._door.heart.beat()
        except StoreUnavailable:
            self._heard = None
            raise
        self._workers = alive
        now = time.monotonic()
        self._heard = now if self._heard is None else self._heard
        if grace is not None:
            grace.counted(alive, steady=now - self._heard > 1.5 * _LOOK_EVERY)

    async def look(self) -> None:
        """Of every team, free the leases that have run out, bring its grants into this window,
        and show its limits; where there are many workers, of some teams.
        """
        with contextlib.suppress(StoreUnavailable):  # of a cluster, others may be there
            self._names = await self._door.directory.team_names()
        # A team of which only the marks know is lost: then looking at it tells.
        every = sorted({*self._names, *self._keeping.marks.teams})
        names = [name for name in every if self._draw() * self._workers < _LOOKERS]
        for some in (names[at : at + _TEAMS] for at in range(0, len(names), _TEAMS)):
            teams = await self._door.directory.find_teams(some)
            for team in filter(None, teams.values()):
                await self._carry(team)
            await self._show({n: self._access(t) if t else None for n, t in teams.items()})

    async def replay(self) -> None:
        """Make the settlements that dead workers left."""
        replayed = await replay(self._door.store, self._keeping.journals, time.time())
        if any(asdict(replayed).values()):
            self._door.log.warning("journal", **asdict(replayed))
        if replayed.too_old or replayed.unreadable:
            self._keeping.alarm(
                "charges_lost", too_old=replayed.too_old, unreadable=replayed.unreadable
            )

    async def show_used(self) -> None:
        """Soon after a team used something, show what is left of its limits."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._door.ledger.settled(), _SHOW_EVERY)
        used = self._keeping.used
        while used:
            await self._show(dict(used.popitem() for _ in range(min(_TEAMS, len(used)))))

    async def prune(self) -> None:
        """Delete the rows that are older than the config keeps them."""
        before = first_kept(datetime.now(UTC).date(), self._keeping.retention)
        for team in await self._door.directory.teams(deleted=True):
            while await prune(self._door.store, team.name, before):
                pass

    async def keep_marks(self) -> None:
        await asyncio.to_thread(self._keeping.marks.keep)

    async def _carry(self, team: TeamRecord) -> None:
        door, plans = self._door, self._keeping.plans
        # Deleted meanwhile, or on a server that is away.
        with contextlib.suppress(DirectoryError, StoreUnavailable):
            await carry_grants(door.store, door.directory, team, plans, time.time())

    async def _show(self, teams: Mapping[str, Access | None]) -> None:
        wanted = {name: _shown(access) if access else () for name, access in teams.items()}
        for name, states in (await self._door.ledger.look(wanted)).items():
            self._door.metrics.limits(name, states)

    def _access(self, team: TeamRecord) -> Access | None:
        if team.status == "deleted":
            return None
        nobody = encode_record(KeyRecord(id="", team="", name="", created_at=0))
        try:
            return open_access("", encode_record(team), nobody, self._keeping.plans, time.time())
        except GatewayError:
            return None  # its plan is not in this config: its keys are told so

    async def _every(self, chore: Chore, seconds: float) -> None:
        while True:
            try:
                await chore()
            except StoreUnavailable:  # tried again
                self._door.metrics.store_errors.inc()
            except Exception as error:
                kind = type(error).__name__  # its words may tell too much
                self._keeping.alarm("chore_failed", chore=chore.__name__, error=kind)
            await asyncio.sleep(seconds)

    async def _announce(self, grace: Grace) -> None:
        teams = [self._access(team) for team in await self._door.directory.teams()]
        bounds = [b for access in teams if access is not None for b in access.bounds]
        self._door.log.warning(
            "grace",
            share=str(grace.share.normalize()),
            workers=grace.workers,
            most_over=most_over((b for b in bounds if b.scope == "team"), grace.share),
            beside="one request a worker and limit, where its share is smaller than that; keys' "
            "own limits have the same share; a worker that starts anew has its part again",
        )


def _shown(access: Access) -> tuple[Bound, ...]:
    return tuple(b for b in access.bounds if b.scope == "team" and b.limit.model == ANY_MODEL)
