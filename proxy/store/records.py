"""Records of teams and keys, read and written one at a time; who knows their rules is above."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redis.exceptions import WatchError

from proxy.domain.identity import KeyRecord, TeamRecord, decode_key, decode_team, encode_record
from proxy.store.client import Store, translated
from proxy.store.layout import CHANGED, TEAMS, auth_key, key_field, records_key, team_keys


class NameTaken(Exception):
    """Another key of the team, one that is not revoked, has this name."""


class Records:
    """The records of a store. Every method may raise StoreUnavailable.

    Those that write take the record's bytes as they were read (b"": there was none) and
    return False where the store has others by now. Gateways are told by `publish`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def team_names(self) -> list[str]:
        """The names of all teams, deleted ones too, sorted."""
        async with translated():
            return sorted(name.decode() for name in await self._store.redis.smembers(TEAMS))

    async def team(self, name: str) -> tuple[TeamRecord, bytes] | None:
        async with translated():
            blob = await self._store.redis.hget(records_key(name), "team")
        return None if blob is None else (decode_team(blob), blob)

    async def keys(self, team: str) -> list[KeyRecord]:
        async with translated():
            return _keys_of(await self._store.redis.hgetall(records_key(team)))

    async def key(self, team: str, key_id: str) -> tuple[KeyRecord, bytes] | None:
        async with translated():
            blob = await self._store.redis.hget(records_key(team), key_field(key_id))
        return None if blob is None else (decode_key(blob), blob)

    async def write_team(self, new: TeamRecord, old: bytes) -> bool:
        async with translated():
            # Before the record: one that is not listed could be neither seen nor made again.
            await self._store.redis.sadd(TEAMS, new.name)
        return await self._replace(new.name, "team", old, encode_record(new))

    async def write_key(self, new: KeyRecord, old: bytes) -> bool:
        """For a key whose name does not change."""
        return await self._replace(new.team, key_field(new.id), old, encode_record(new))

    async def write_named_key(self, new: KeyRecord, old: bytes) -> bool:
        """For a new name, in one transaction with the look at the others. Raises NameTaken."""
        place, field = records_key(new.team), key_field(new.id)
        async with translated(), self._store.redis.pipeline(transaction=True) as pipe:
            await pipe.watch(place)
            found = await pipe.hgetall(place)
            if found.get(field.encode(), b"") != old:
                return False
            others = [k for k in _keys_of(found) if k.id != new.id and k.status != "revoked"]
            if new.status != "revoked" and any(other.name == new.name for other in others):
                raise NameTaken
            pipe.multi()
            pipe.hset(place, field, encode_record(new))
            try:
                await pipe.execute()
            except WatchError:
                return False
        return True

    async def write_auth(self, key: KeyRecord) -> None:
        """Let the key's secrets lead to it; what leads elsewhere stays as it is."""
        async with translated():
            for secret in key.secrets:
                owner = f"{key.team} {key.id}"
                await self._store.redis.set(auth_key(secret.digest), owner, nx=True)

    async def owner(self, digests: Iterable[str]) -> tuple[str, str] | None:
        """The team and the id of the key that one of these leads to."""
        async with translated():
            found = await self._store.redis.mget([auth_key(digest) for digest in digests])
        owner = next((value for value in found if value is not None), None)
        if owner is None:
            return None
        team, _, key_id = owner.decode().partition(" ")
        return team, key_id

    async def publish(self, team: str) -> None:
        async with translated():
            await self._store.redis.publish(CHANGED, team)

    async def seconds(self) -> int:
        """The store's clock, which the ledger goes by."""
        async with translated():
            return int((await self._store.redis.time())[0])

    async def _replace(self, team: str, field: str, old: bytes, new: bytes) -> bool:
        return bool(await self._store.run("replace", team_keys(team), field, old, new))


def _keys_of(found: Mapping[bytes, bytes]) -> list[KeyRecord]:
    return [decode_key(blob) for field, blob in found.items() if field != b"team"]
