"""Targets that are switched off: one hash in the store, which every gateway has within moments.

Each end is a time of the clocks of who switches and who serves (NTP).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from redis.exceptions import WatchError

from proxy.domain.errors import StoreUnavailable
from proxy.domain.limits import ANY_MODEL
from proxy.store.audit import Audit, Line
from proxy.store.changes import Conflict
from proxy.store.client import Store, end_tasks
from proxy.store.layout import SWITCHED, TARGETS
from proxy.store.shapes import when

#: A model's name and a provider's.
Pair = tuple[str, str]

_TRIES: Final = 20


class Switch(msgspec.Struct, frozen=True):
    """A target that is off; `model` "*": all of the provider's. `until`: in seconds since 1970, or
    None: until it is switched on.
    """

    provider: str
    model: str
    since: int
    until: int | None
    by: str
    reason: str = ""

    @property
    def field(self) -> str:
        return f"{self.model} {self.provider}"  # no name has a space

    @property
    def name(self) -> str:
        """As the audit and the log have it: `gpt-4o at openai`, or `openai`."""
        return self.provider if self.model == ANY_MODEL else f"{self.model} at {self.provider}"

    def live(self, now: float) -> bool:
        return self.until is None or now < self.until

    def covers(self, pair: Pair) -> bool:
        return self.provider == pair[1] and self.model in (ANY_MODEL, pair[0])


_read = msgspec.json.Decoder(Switch).decode
_write = msgspec.json.encode


async def read_switches(store: Store) -> list[Switch]:
    """Those that the store has, over or not, by provider and model. Raises StoreUnavailable."""
    return _switches(await store.ask(TARGETS, "HGETALL", TARGETS))


def covered(switches: Iterable[Switch], pairs: Iterable[Pair], now: float) -> frozenset[Pair]:
    """Which of the pairs are off."""
    live = [switch for switch in switches if switch.live(now)]
    return frozenset(pair for pair in pairs if any(switch.covers(pair) for switch in live))


class Switches:
    """What is off, as this worker last heard: `told` gets it whenever it has changed.

    An end is kept whether or not the store is there.
    """

    def __init__(
        self, store: Store, pairs: Collection[Pair], told: Callable[[frozenset[Pair]], None]
    ) -> None:
        self._store = store
        self._pairs = tuple(pairs)
        self._told = told
        self._known: list[Switch] = []
        self._off: frozenset[Pair] = frozenset()
        self._looking = asyncio.Lock()  # what was read first is not heard last
        self._soon: set[asyncio.Task[None]] = set()
        self._ending: asyncio.TimerHandle | None = None

    async def look(self) -> None:
        """Raises StoreUnavailable; then what was known stands."""
        async with self._looking:
            self._known = await read_switches(self._store)
            self._tell()

    def heard(self) -> None:
        """Something has changed, or may have: look as soon as can be."""
        if len(self._soon) > 1:  # one that reads, and one that will
            return
        task = asyncio.get_running_loop().create_task(self._look_soon(), name="switches")
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def stop(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        await end_tasks(*self._soon)

    async def _look_soon(self) -> None:
        with contextlib.suppress(StoreUnavailable):  # the timed look comes anyway
            await self.look()

    def _tell(self) -> None:
        now = time.time()
        off = covered(self._known, self._pairs, now)
        if off != self._off:
            self._off = off
            self._told(off)
        if self._ending is not None:
            self._ending.cancel()
        ends = [s.until for s in self._known if s.until is not None and s.live(now)]
        loop = asyncio.get_running_loop()
        self._ending = loop.call_later(min(ends) - now, self._tell) if ends else None


class SwitchBoard:
    """Switches targets off and on. Every method may raise StoreUnavailable, and Conflict where
    others are always faster. A change has its line in the audit; those that are over go with it.
    """

    def __init__(self, store: Store, audit: Audit) -> None:
        self._store = store
        self._audit = audit

    @property
    def actor(self) -> str:
        return self._audit.actor

    async def off(self) -> list[Switch]:
        """What is off now."""
        now = time.time()
        return [switch for switch in await read_switches(self._store) if switch.live(now)]

    async def turn_off(self, switch: Switch) -> None:
        """In the place of one for the same target, if there is one."""

        def change(found: list[Switch]) -> tuple[list[Switch], list[Switch]]:
            kept = [s for s in found if s.field != switch.field]
            return [*kept, switch], [switch]

        await self._change(change)

    async def turn_on(self, provider: str, model: str) -> list[Switch]:
        """Take away the switch of a target, with "*" all those of the provider; what they were."""
        gone: list[Switch] = []

        def change(found: list[Switch]) -> tuple[list[Switch], list[Switch]]:
            gone[:] = [s for s in found if s.provider == provider and model in (ANY_MODEL, s.model)]
            return [s for s in found if s not in gone], gone

        await self._change(change)
        return gone

    async def _change(
        self, change: Callable[[list[Switch]], tuple[list[Switch], list[Switch]]]
    ) -> None:
        """`change`: from what is off to what is to be, and which of both have their line."""
        for _ in range(_TRIES):
            raw = await self._store.ask(TARGETS, "HGETALL", TARGETS)
            found = [switch for switch in _switches(raw) if switch.live(time.time())]
            wanted, touched = change(found)
            if wanted == found:
                return
            lines = [self._line(switch, found, wanted) for switch in touched]
            ids = await self._audit.begin(lines)
            if await self._store.use(TARGETS, _replacing(raw, wanted), twice=False):
                self._audit.done(lines)
                await self._store.ask(None, "PUBLISH", SWITCHED, "")
                return
            await self._audit.take_back(ids)
        raise Conflict("the targets are being switched by others; try again")

    def _line(self, switch: Switch, found: list[Switch], wanted: list[Switch]) -> Line:
        return Line(
            actor=self._audit.actor,
            action="target.disable" if switch in wanted else "target.enable",
            team="",
            key="",
            name=switch.name,
            before=_told_of(switch, found),
            after=_told_of(switch, wanted),
        )


def _told_of(switch: Switch, among: list[Switch]) -> Mapping[str, Any]:
    one = next((s for s in among if s.field == switch.field), None)
    if one is None:
        return {"status": "active"}
    more = {"until": when(one.until), "reason": one.reason}
    return {"status": "disabled", **{name: value for name, value in more.items() if value}}


def _replacing(raw: Mapping[bytes, bytes], wanted: list[Switch]) -> Callable[[Any], Any]:
    """Writes what is wanted if the hash is still the one that was read; else False."""

    async def write(client: Any) -> bool:
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(TARGETS)
            if await pipe.hgetall(TARGETS) != raw:
                return False
            pipe.multi()
            pipe.delete(TARGETS)
            if wanted:
                pipe.hset(TARGETS, mapping={s.field: _write(s) for s in wanted})
            try:
                await pipe.execute()
            except WatchError:
                return False
        return True

    return write


def _switches(raw: Mapping[bytes, bytes]) -> list[Switch]:
    found = []
    for blob in raw.values():
        with contextlib.suppress(msgspec.DecodeError):  # nothing that this release wrote
            found.append(_read(blob))
    return sorted(found, key=lambda switch: (switch.provider, switch.model))
