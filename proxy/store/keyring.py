"""Authentication: a key's access, from a cache that others' changes reach at once.

What is cached is freshened by pub/sub and in any case after a few seconds; admission itself
does not rest on it, since the ledger compares the records again. Unknown keys are cached
too, in bounded memory, and never because the store could not be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

from proxy.access import Access, Plan, check_standing, open_access
from proxy.domain.errors import StoreUnavailable, Unauthorized
from proxy.domain.keys import digests, is_well_formed
from proxy.domain.quota import Spent
from proxy.store.client import Store, end_tasks, translated
from proxy.store.layout import CHANGED, auth_key, key_field, records_key

_FRESH: Final = 5.0  # seconds
_QUIET: Final = 15.0  # seconds without news until the connection is tried
_CONNECT: Final = 1.0  # seconds
_AGAIN: Final = 0.25  # seconds until a lost connection is made again
_MOST: Final = 10_000  # entries of either kind

K = TypeVar("K")
T = TypeVar("T")

_WRONG = "Incorrect API key provided. Keys start with 'vg_'; ask your platform team for one."


class KeyRing:
    """The keys that this worker has met.

    `keep_stale`: while the store is away, a key is what it was when it was last looked at.
    """

    def __init__(
        self,
        store: Store,
        peppers: Sequence[str],
        plans: Mapping[str, Plan],
        *,
        keep_stale: bool = False,
    ) -> None:
        self._store = store
        self._keep_stale = keep_stale
        self._peppers = tuple(peppers)
        self._plans = plans
        # Spares known keys their HMACs. A key itself is not kept, and what leads to its digests
        # comes to nothing without the secret of this very object.
        self._sealing = blake2b(key=secrets.token_bytes(32))
        self._sealed: OrderedDict[bytes, list[str]] = OrderedDict()
        self._known: OrderedDict[str, tuple[Access, float]] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._owners: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._spent: OrderedDict[str, tuple[Access, Spent, float]] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Access]] = {}
        self._changes = 0  # told so far: what was read before one is not kept after it
        self._listener: asyncio.Task[None] | None = None
        self._others: dict[bytes, Callable[[], None]] = {}

    async def authenticate(self, key: str) -> Access:
        """The access of a key.

        Raises Unauthorized, Forbidden, or StoreUnavailable where only the store knows.
        """
        sealing = self._sealing.copy()
        sealing.update(key.encode(errors="surrogateescape"))
        seal = sealing.digest()
        sealed = candidates = self._sealed.get(seal)
        if candidates is None:
            if not is_well_formed(key):
                raise Unauthorized(_WRONG)
            candidates = digests(self._peppers, key)
        known, now = self._known.get(candidates[0]), time.time()
        if known is not None and time.monotonic() - known[1] < _FRESH and now < known[0].until:
            access = known[0]
        else:
            access = await self._look_up(candidates)
            now = time.time()
        if sealed is None:
            _remember(self._sealed, seal, candidates)
        if now >= access.stands_until:
            check_standing(access, now)
        return access

    def found_spent(self, access: Access, spent: Spent) -> None:
        """Remember what a request of this access was refused for, if others would be too."""
        if spent.refusal(spent.now) is not None:
            _remember(self._spent, access.digest, (access, spent, time.monotonic()))

    def check_spent(self, access: Access) -> None:
        """Stop what the ledger is known to refuse, whatever it asks for.

        Known for as long as this very access is cached: a change or a grant brings a new one. A
        late settlement that gives something back may be noticed that much later. Raises
        LimitExceeded.
        """
        known = self._spent.get(access.digest)
        if known is None or known[0] is not access:
            return
        age = time.monotonic() - known[2]
        refusal = known[1].refusal(known[1].now + int(age * 1000)) if age < _FRESH else None
        if refusal is not None:
            raise refusal

    def reopen(self, access: Access, team_blob: bytes, key_blob: bytes) -> Access:
        """The access from newer records of the same key, as the ledger found them.

        Raises Unauthorized or Forbidden where they no longer allow it.
        """
        self.forget(access.team.name)
        if not team_blob or not key_blob:
            raise Unauthorized(_WRONG)
        fresh = open_access(access.digest, team_blob, key_blob, self._plans, time.time())
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

    def also(self, channel: str, told: Callable[[], None]) -> None:
        """Listen there, too: `told` of news, and where some may have been missed."""
        self._others[channel.encode()] = told

    async def start(self) -> None:
        self._listener = asyncio.create_task(self._listen(), name="keyring-listener")

    async def stop(self) -> None:
        if self._listener is not None:
            await end_tasks(self._listener)

    async def _look_up(self, candidates: list[str]) -> Access:
        """A key that is not known, or no longer fresh."""
        digest = candidates[0]
        since = self._unknown.get(digest)
        if since is not None and time.monotonic() - since < _FRESH:
            raise Unauthorized(_WRONG)
        try:
            return await self._load_once(candidates)
        except StoreUnavailable:
            if not self._keep_stale or digest not in self._known:
                raise
            return self._known[digest][0]

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
        if (owner := await self._owner(candidates)) is not None:
            digest, team, key_id = owner
            team_blob, key_blob = await self._records(team, key_id)
            if team_blob and key_blob:
                access = open_access(digest, team_blob, key_blob, self._plans, time.time())
                if before == self._changes:
                    _remember(self._known, candidates[0], (access, time.monotonic()))
                return access
            self._owners.pop(candidates[0], None)
        if before == self._changes:
            _remember(self._unknown, candidates[0], time.monotonic())
        raise Unauthorized(_WRONG)

    async def _owner(self, candidates: list[str]) -> tuple[str, str, str] | None:
        """The digest that leads to a key, its team and its id. That never changes, so it is asked
        once: in a cluster it may be on a server that is away while the team's own is there.
        """
        owner = self._owners.get(candidates[0])
        for digest in candidates if owner is None else ():
            place = auth_key(digest)
            value = await self._store.ask(place, "GET", place)
            if value is not None:
                team, _, key_id = value.decode().partition(" ")
                owner = (digest, team, key_id)
                _remember(self._owners, candidates[0], owner)
                break
        return owner

    async def _records(self, team: str, key_id: str) -> tuple[bytes, bytes]:
        place = records_key(team)
        found = await self._store.ask(place, "HMGET", place, "team", key_field(key_id))
        return found[0] or b"", found[1] or b""

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self._hear()
            await asyncio.sleep(_AGAIN)

    async def _hear(self) -> None:
        async with translated(), self._store.pubsub() as channel:
            async with asyncio.timeout(_CONNECT):
                await channel.subscribe(CHANGED, *self._others)
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
        other = self._others.get(message["channel"])
        if other is not None and message["type"] in ("message", "subscribe"):
            other()
        elif message["type"] == "message":
            self.forget(message["data"].decode())
        elif message["type"] == "subscribe":
            # Connected, maybe again: what changed while nobody listened is not told again.
            self._changes += 1
            self._known.clear()
            self._unknown.clear()


def _remember(entries: OrderedDict[K, T], key: K, value: T) -> None:
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > _MOST:
        entries.popitem(last=False)
