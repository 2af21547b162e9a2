"""A ledger and a keyring on a real store, with a team and a key, and no web server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.access import Access, Plan
from proxy.domain.errors import Forbidden, Unauthorized
from proxy.domain.estimate import OutputCap
from proxy.domain.grace import Grace
from proxy.domain.limits import parse_limit
from proxy.domain.usage import FREE, Amounts, Estimate, Outcome, Phase, Usage
from proxy.images.policy import ImagePolicy
from proxy.images.urls import UrlRules
from proxy.store.client import Store
from proxy.store.directory import Directory, NewKey
from proxy.store.journal import Journal
from proxy.store.keyring import KeyRing
from proxy.store.layout import CHANGED
from proxy.store.ledger import LEASE, Ledger
from proxy.store.marks import Marks
from proxy.store.settlements import Alarm, silent
from tests.store.scripts import Scripts, connect

PEPPER = "a pepper for the tests"


def plan(name: str = "default", *, enforce: bool = True) -> Plan:
    """A plan that binds nothing."""
    return Plan(
        name=name,
        models=frozenset({"*"}),
        output=OutputCap(),
        limits=(),
        require_stream=False,
        allow_parameters=frozenset(),
        enforce=enforce,
        images=ImagePolicy(
            mode="url",
            urls=UrlRules(frozenset({"https"}), frozenset({443})),
            formats=frozenset({"png"}),
            max_count=1,
            max_bytes=1,
            max_pixels=1,
            max_side=1,
            max_frames=1,
        ),
    )


PLANS = {"default": plan(), "watch": plan("watch", enforce=False)}


class Meter:
    """A meter that says what it is told to: so many tokens used, in the end or so far."""

    def __init__(self) -> None:
        self.phase = Phase.NOT_CALLED
        self.usage: Usage | None = None

    def used(self, input: int, output: int = 0, cached: int = 0) -> None:
        self.phase, self.usage = Phase.COMPLETE, Usage(input, output, cached)

    def outcome(self) -> Outcome:
        return Outcome(self.phase, self.usage, 0)


def worst(tokens: int) -> Estimate:
    """A request for at most so many input tokens, free of charge."""
    return Estimate(Amounts(1, tokens, 0, 0, 0), tokens, 0, FREE)


async def until(look: Callable[[], Awaitable[Any] | Any], seconds: float = 3.0) -> Any:
    """Look until there is something to see."""
    async with asyncio.timeout(seconds):
        while True:
            found = look()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.005)  # between two looks


@dataclass
class Till:
    """The parts, running. `scripts` sees what the store holds of the team."""

    store: Store
    directory: Directory
    keys: KeyRing
    ledger: Ledger
    scripts: Scripts

    async def key(
        self, *limits: str, name: str = "ci", team: str = "vision", **more: Any
    ) -> NewKey:
        """A new key; its team is made if there is none."""
        if team not in await self.directory.team_names():
            await self.directory.create_team(team)
        bounds = tuple(parse_limit(text) for text in limits)
        return await self.directory.create_key(team, name, limits=bounds, **more)

    async def access(self, *limits: str, **more: Any) -> Access:
        """The access of a new key."""
        return await self.keys.authenticate((await self.key(*limits, **more)).secret)

    async def change(self, key: NewKey, **fields: Any) -> None:
        """Change a key's record, as the commands do."""
        await self.directory.change_key(
            "vision", key.record.id, lambda r: msgspec.structs.replace(r, **fields)
        )

    async def refuses(self, key: NewKey) -> bool:
        try:
            await self.keys.authenticate(key.secret)
        except (Unauthorized, Forbidden):
            return True
        return False

    async def listening(self) -> bool:
        """Whether a keyring hears of changes."""
        ((_, listeners),) = await self.store.redis.pubsub_numsub(CHANGED)
        return bool(listeners)

    async def held(self) -> int:
        """How many commands wait for company."""
        for _ in range(5):
            await asyncio.sleep(0)
        line: Any = self.store.servers.nodes[0]._line
        return len(line._waiting)

    def reserve(self, access: Access, tokens: int, meter: Meter | None = None) -> Any:
        stand_in: Any = meter or Meter()
        return self.ledger.reserve(access, "m1", "p1", worst(tokens), stand_in)


@asynccontextmanager
async def open_till(
    url: str,
    store: Store | None = None,
    *,
    lease: float = LEASE,
    peppers: Sequence[str] = (PEPPER,),
    journal: Journal | None = None,
    marks: Marks | None = None,
    grace: Grace | None = None,
    alarm: Alarm = silent,
) -> AsyncIterator[Till]:
    """The ledger's parts at `url`, or on a `store` of the test's own."""
    own = store or Store.open(url)
    keys = KeyRing(own, peppers, PLANS, keep_stale=grace is not None)
    ledger = Ledger(own, keys, lease=lease, journal=journal, marks=marks, grace=grace, alarm=alarm)
    with connect(url) as client:
        try:
            await keys.start()
            await ledger.start()
            till = Till(own, Directory(own, peppers), keys, ledger, Scripts(client, keys=()))
            await until(till.listening)
            await until(lambda: keys._changes)  # and it knows that it does
            yield till
        finally:
            await ledger.stop(0 if ledger.unsettled else 5)
            await keys.stop()
            if store is None:
                await own.close()
