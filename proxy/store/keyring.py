"""Authentication: a key's access, from a cache that others' changes reach at once.

What is cached is freshened by pub/sub and in any case after a few seconds; admission itself
does not rest on it, since the ledger compares the records again. Unknown keys are cached
too, in bounded memory, and never because the store could not be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from proxy.access import Access, Plan, check_standing, open_access
from proxy.domain.errors import StoreUnavailable, Unauthorized
from proxy.domain.keys import digests, is_well_formed
from proxy.store.client import Store, end_tasks, translated
from proxy.store.layout import CHANGED, auth_key, key_field, records_key

_FRESH: Final = 5.0  # seconds
_QUIET: Final = 15.0  # seconds without news until the connection is tried
_MOST: Final = 10_000  # entries of either kind

T = TypeVar("T")

_WRONG = "Incorrect API key provided. Keys start with 'vg_'; ask your platform team for one."


class KeyRing:
    """The keys that this worker has met."""

    def __init__(self, store: Store, peppers: Sequence[str], plans: Mapping[str, Plan]) -> None:
        self._store = store
        self._peppers = tuple(peppers)
        self._plans = plans
        self._known: OrderedDict[str, tuple[Access, float]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Access]] = {}
        self._changes = 0  # told so far: what was read before one is not kept after it
        self._listener: asyncio.Task[None] | None = None

    async def authenticate(self, key: str) -> Access:
        """The access of a key.

        Raises Unauthorized, Forbidden, or StoreUnavailable where only the store knows.
        """
        if not is_well_formed(key):
            raise Unauthorized(_WRONG)
        candidates = digests(self._peppers, key)
        access = self._cached(candidates[0]) or await self._load_once(candidates)
        check_standing(access, time.time())
        return access

    def reopen(self, access: Access, team_blob: bytes, key_blob: bytes) -> Access:
        """The access from newer records of the same key, as the ledger found them.

        Raises Unauthorized or Forbidden where they no longer allow it.
        """
        self.forget(access.team.name)
        if not team_blob or not key_blob:
            raise Unauthorized(_WRONG)
        fresh = open_access(access.digest, team_blob, key_blob, self._plans)
        check_standing(fresh, time.time())
        return fresh

    async def reload(self, access: Access) -> Access:
        """The access as the store has it now."""
        return self.reopen(access, *await self._records(access.team.name, access.key.id))

    def forget(self, team: str) -> None:
        """Drop what is known of a team, and every unknown key: one may have been made."""
        self._changes += 1
        self._unknown.clear()
        for digest in [d for d, (a, _) in self._known.items() if a.team.name == team]:
            del self._known[digest]

    async def start(self) -> None:
        self._listener = asyncio.create_task(self._listen(), name="keyring-listener")

    async def stop(self) -> None:
        if self._listener is not None:
            await end_tasks(self._listener)

    def _cached(self, digest: str) -> Access | None:
        now = time.monotonic()
        if (entry := self._known.get(digest)) is not None and now - entry[1] < _FRESH:
            return entry[0]
        if (since := self._unknown.get(digest)) is not None and now - since < _FRESH:
            raise Unauthorized(_WRONG)
        return None

    async def _load_once(self, candidates: list[str]) -> Access:
        """One question to the store, however many requests want the answer."""
        task = self._loading.get(candidates[0])
        if task is None:
            task = asyncio.create_task(self._load(candidates))
            self._loading[candidates[0]] = task
            task.add_done_callback(lambda done: self._loaded(candidates[0], done))
        return await asyncio.shield(task)

    def _loaded(self, digest: str, task: asyncio.Task[Access]) -> None:
        del self._loading[digest]
        if not task.cancelled():
            task.exception()  # each waiter raises it; nobody waiting is no error

    async def _load(self, candidates: list[str]) -> Access:
        before = self._changes
        async with translated():
            found = await self._store.redis.mget([auth_key(digest) for digest in candidates])
        for digest, value in zip(candidates, found, strict=True):
            if value is None:
                continue
            team, _, key_id = value.decode().partition(" ")
            team_blob, key_blob = await self._records(team, key_id)
            if team_blob and key_blob:
                access = open_access(digest, team_blob, key_blob, self._plans)
                if before == self._changes:
                    _remember(self._known, candidates[0], (access, time.monotonic()))
                return access
        if before == self._changes:
            _remember(self._unknown, candidates[0], time.monotonic())
        raise Unauthorized(_WRONG)

    async def _records(self, team: str, key_id: str) -> tuple[bytes, bytes]:
        async with translated():
            found = await self._store.redis.hmget(records_key(team), ["team", key_field(key_id)])
        return found[0] or b"", found[1] or b""

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self._hear()
            await asyncio.sleep(1)

    async def _hear(self) -> None:
        async with translated(), self._store.redis.pubsub() as channel:
            await channel.subscribe(CHANGED)
            asked = False
            while True:
                message = await channel.get_message(timeout=_QUIET)
                if message is not None:
                    self._heard(message)
                elif asked:
                    return  # a connection that died in silence: make a new one
                else:
                    await channel.ping()
                asked = message is None

    def _heard(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "message":
            self.forget(message["data"].decode())
        elif message["type"] == "subscribe":
            # Connected, maybe again: what changed while nobody listened is not told again.
            self._changes += 1
            self._known.clear()
            self._unknown.clear()


def _remember(entries: OrderedDict[str, T], digest: str, value: T) -> None:
    entries[digest] = value
    entries.move_to_end(digest)
    if len(entries) > _MOST:
        entries.popitem(last=False)
