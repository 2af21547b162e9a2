"""Teams and keys: made, changed and found, by the commands and the admin API alike."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.domain.identity import (
    Grant,
    KeyRecord,
    Secret,
    TeamRecord,
    decode_key,
    decode_team,
    encode_record,
)
from proxy.domain.keys import ALPHABET, RANDOM_LENGTH, digest, digests, make_key
from proxy.domain.limits import Limit
from proxy.domain.quota import stamp_of
from proxy.store.client import Store, translated
from proxy.store.layout import CHANGED, TEAMS, auth_key, key_field, records_key, team_keys

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
_TRIES: Final = 20
_HINT: Final = 4


class DirectoryError(Exception):
    """What was asked cannot be done; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with the secret that is not kept anywhere."""

    record: KeyRecord
    secret: str


class Directory:
    """The teams and keys of a store. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store, peppers: Sequence[str]) -> None:
        self._store = store
        self._peppers = tuple(peppers)

    async def create_team(
        self,
        name: str,
        *,
        plan: str = "default",
        limits: tuple[Limit, ...] = (),
        labels: dict[str, str] | None = None,
    ) -> TeamRecord:
        """Raises DirectoryError for a bad name or one that is taken."""
        _check_name(name, "team")
        record = TeamRecord(
            name=name, plan=plan, limits=limits, labels=labels or {}, created_at=_now()
        )
        if not await self._replace(name, "team", b"", encode_record(record)):
            old, _ = await self._team(name)
            was = "was deleted, and its usage is kept" if old.status == "deleted" else "exists"
            raise DirectoryError(f"the team '{name}' {was}; choose another name")
        async with translated():
            await self._store.redis.sadd(TEAMS, name)
        return record

    async def teams(self, *, deleted: bool = False) -> list[TeamRecord]:
        """All teams by name."""
        found = [await self._find(name) for name in await self.team_names()]
        return [t for t in found if t is not None and (deleted or t.status != "deleted")]

    async def team_names(self) -> list[str]:
        """The names of all teams, deleted ones too, sorted."""
        async with translated():
            return sorted(name.decode() for name in await self._store.redis.smembers(TEAMS))

    async def team(self, name: str) -> TeamRecord:
        """Raises DirectoryError where there is none."""
        record, _ = await self._team(name)
        if record.status == "deleted":
            raise DirectoryError(f"the team '{name}' was deleted")
        return record

    async def change_team(
        self, name: str, change: Callable[[TeamRecord], TeamRecord]
    ) -> TeamRecord:
        """Apply a change to the record as it stands, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            record, blob = await self._team(name)
            if record.status == "deleted":
                raise DirectoryError(f"the team '{name}' was deleted")
            new = change(record)
            if await self._replace(name, "team", blob, encode_record(new)):
                return new
        raise DirectoryError(f"the team '{name}' is being changed by others; try again")

    async def delete_team(self, name: str) -> None:
        """Its keys stop at once; its usage stays on record under its name."""
        for key in await self.keys(name):
            await self.change_key(
                name, key.id, lambda r: msgspec.structs.replace(r, status="revoked")
            )
        await self.change_team(name, lambda r: msgspec.structs.replace(r, status="deleted"))

    async def grant_team(self, name: str, limit: Limit) -> TeamRecord:
        """Add an amount to a limit's current window only."""
        grant = Grant(limit, stamp_of(limit.window, _now() * 1000))
        return await self.change_team(
            name, lambda r: msgspec.structs.replace(r, grants=_kept(r.grants, grant))
        )

    async def create_key(
        self,
        team: str,
        name: str,
        *,
        plan: str | None = None,
        limits: tuple[Limit, ...] = (),
        expires_at: int | None = None,
    ) -> NewKey:
        """Raises DirectoryError for an unknown team, a bad name or one that is in use."""
        _check_name(name, "key")
        await self.team(team)
        if any(k.name == name and k.status != "revoked" for k in await self.keys(team)):
            raise DirectoryError(f"the team '{team}' has a key '{name}'; choose another name")
        secret = _new_secret()
        record = KeyRecord(
            id="key_" + _random(12),
            team=team,
            name=name,
            plan=plan,
            limits=limits,
            secrets=(self._at_rest(secret),),
            created_at=_now(),
            expires_at=expires_at,
        )
        await self._write_auth(record, secret)
        await self._replace(team, key_field(record.id), b"", encode_record(record))
        return NewKey(record, secret)

    async def keys(self, team: str) -> list[KeyRecord]:
        """A team's keys by name, the revoked ones too."""
        async with translated():
            found = await self._store.redis.hgetall(records_key(team))
        keys = [decode_key(blob) for field, blob in found.items() if field != b"team"]
        return sorted(keys, key=lambda key: (key.name, key.created_at))

    async def all_keys(self) -> list[KeyRecord]:
        names = await self.team_names()
        return [key for keys in await asyncio.gather(*map(self.keys, names)) for key in keys]

    async def key(self, name: str, team: str | None = None) -> KeyRecord:
        """A key by its id, or by its name where that names only one.

        Raises DirectoryError where there is none or more than one.
        """
        keys = await (self.keys(team) if team else self.all_keys())
        found = [key for key in keys if key.id == name]
        found = found or [key for key in keys if key.name == name and key.status != "revoked"]
        if not found:
            raise DirectoryError(f"there is no key '{name}'" + (f" in '{team}'" if team else ""))
        if len(found) > 1:
            teams = ", ".join(sorted({key.team for key in found}))
            raise DirectoryError(f"several teams have a key '{name}' ({teams}); add --team")
        return found[0]

    async def change_key(
        self, team: str, key_id: str, change: Callable[[KeyRecord], KeyRecord]
    ) -> KeyRecord:
        """Apply a change to the record as it stands, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            async with translated():
                blob = await self._store.redis.hget(records_key(team), key_field(key_id))
            if blob is None:
                raise DirectoryError(f"there is no key '{key_id}'")
            new = change(decode_key(blob))
            if await self._replace(team, key_field(key_id), blob, encode_record(new)):
                return new
        raise DirectoryError(f"the key '{key_id}' is being changed by others; try again")

    async def rotate_key(self, key: KeyRecord, overlap: int) -> NewKey:
        """A new secret; the old one goes on for `overlap` seconds."""
        secret = _new_secret()
        ends = _now() + overlap

        def change(record: KeyRecord) -> KeyRecord:
            old = [
                msgspec.structs.replace(s, expires_at=min(s.expires_at or ends, ends))
                for s in record.secrets
                if s.expires_at is None or s.expires_at > _now()
            ]
            kept = tuple(old) if overlap else ()
            return msgspec.structs.replace(record, secrets=(self._at_rest(secret), *kept))

        await self._write_auth(key, secret)
        return NewKey(await self.change_key(key.team, key.id, change), secret)

    async def find_key(self, secret: str) -> KeyRecord | None:
        """Whose a secret is, live or not; None where nobody's."""
        candidates = [auth_key(d) for d in digests(self._peppers, secret)]
        async with translated():
            found = [v for v in await self._store.redis.mget(candidates) if v is not None]
            if not found:
                return None
            team, _, key_id = found[0].decode().partition(" ")
            blob = await self._store.redis.hget(records_key(team), key_field(key_id))
        return None if blob is None else decode_key(blob)

    def _at_rest(self, secret: str) -> Secret:
        return Secret(digest(self._peppers[0], secret), secret[-_HINT:])

    async def _write_auth(self, record: KeyRecord, secret: str) -> None:
        async with translated():
            name = auth_key(digest(self._peppers[0], secret))
            await self._store.redis.set(name, f"{record.team} {record.id}", nx=True)

    async def _find(self, name: str) -> TeamRecord | None:
        async with translated():
            blob = await self._store.redis.hget(records_key(name), "team")
        return None if blob is None else decode_team(blob)

    async def _team(self, name: str) -> tuple[TeamRecord, bytes]:
        async with translated():
            blob = await self._store.redis.hget(records_key(name), "team")
        if blob is None:
            known = ", ".join(t.name for t in await self.teams()) or "none yet"
            raise DirectoryError(f"there is no team '{name}'; teams: {known}")
        return decode_team(blob), blob

    async def _replace(self, team: str, field: str, old: bytes, new: bytes) -> bool:
        done = await self._store.run("replace", team_keys(team), field, old, new)
        if done:
            async with translated():
                await self._store.redis.publish(CHANGED, team)
        return bool(done)


def _kept(grants: tuple[Grant, ...], new: Grant) -> tuple[Grant, ...]:
    """Grants of windows long gone are dropped."""
    same = [g for g in grants if g.limit.window != new.limit.window or g.stamp == new.stamp]
    return (*same, new)


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise DirectoryError(
            f"{name!r} cannot be a {what}'s name: use up to 64 letters, digits, '.', '_' or '-', "
            "with a letter or digit at both ends"
        )


def _new_secret() -> str:
    return make_key(_random(RANDOM_LENGTH))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _now() -> int:
    return int(time.time())
