"""Records of teams and keys, read and written one at a time; who knows their rules is above."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import WatchError

from proxy.domain.errors import StoreUnavailable
from proxy.domain.identity import KeyRecord, TeamRecord, decode_key, decode_team, encode_record
from proxy.store.client import Store
from proxy.store.layout import CHANGED, TEAMS, auth_key, key_field, records_key, team_keys

_TEAMS: Final = 64  # in one round trip


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
        return sorted(name.decode() for name in await self._store.ask(TEAMS, "SMEMBERS", TEAMS))

    async def team(self, name: str) -> tuple[TeamRecord, bytes] | None:
        blob = await self._get(name, "team")
        return None if blob is None else (decode_team(blob), blob)

    async def teams(self, names: Sequence[str]) -> dict[str, TeamRecord | None]:
        """The records of teams; None where there is none. Left out where nobody could be asked."""
        found: dict[str, TeamRecord | None] = {}
        for some in (names[at : at + _TEAMS] for at in range(0, len(names), _TEAMS)):
            calls = [(place, ("HGET", place, "team")) for place in map(records_key, some)]
            with contextlib.suppress(StoreUnavailable):
                for name, blob in zip(some, await self._store.ask_many(calls), strict=True):
                    if not isinstance(blob, StoreUnavailable):
                        found[name] = decode_team(blob) if blob else None
        return found

    async def keys(self, team: str) -> list[KeyRecord]:
        place = records_key(team)
        return _keys_of(await self._store.ask(place, "HGETALL", place))

    async def key(self, team: str, key_id: str) -> tuple[KeyRecord, bytes] | None:
        blob = await self._get(team, key_field(key_id))
        return None if blob is None else (decode_key(blob), blob)

    async def write_team(self, new: TeamRecord, old: bytes) -> bool:
        # Before the record: one that is not listed could be neither seen nor made again.
        await self._store.ask(TEAMS, "SADD", TEAMS, new.name)
        return await self._replace(new.name, "team", old, encode_record(new))

    async def write_key(self, new: KeyRecord, old: bytes) -> bool:
        """For a key whose name does not change."""
        return await self._replace(new.team, key_field(new.id), old, encode_record(new))

    async def write_named_key(self, new: KeyRecord, old: bytes) -> bool:
        """For a new name, in one transaction with the look at the others. Raises NameTaken."""
        place, field = records_key(new.team), key_field(new.id)

        async def write(client: Any) -> bool:
            async with client.pipeline(transaction=True) as pipe:
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

        return await self._store.use(place, write, twice=False)

    async def write_auth(self, key: KeyRecord) -> None:
        """Let the key's secrets lead to it; what leads elsewhere stays as it is."""
        for secret in key.secrets:
            place = auth_key(secret.digest)
            await self._store.ask(place, "SET", place, f"{key.team} {key.id}", "NX")

    async def owner(self, digests: Iterable[str]) -> tuple[str, str] | None:
        """The team and the id of the key that one of these leads to."""
        for digest in digests:
            place = auth_key(digest)
            owner = await self._store.ask(place, "GET", place)
            if owner is not None:
                team, _, key_id = owner.decode().partition(" ")
                return team, key_id
        return None

    async def publish(self, team: str) -> None:
        await self._store.ask(None, "PUBLISH", CHANGED, team)

    async def _get(self, team: str, field: str) -> Any:
        place = records_key(team)
        return await self._store.ask(place, "HGET", place, field)

    async def _replace(self, team: str, field: str, old: bytes, new: bytes) -> bool:
        return bool(await self._store.run("replace", team_keys(team), field, old, new))


def _keys_of(found: Mapping[bytes, bytes]) -> list[KeyRecord]:
    return [decode_key(blob) for field, blob in found.items() if field != b"team"]
