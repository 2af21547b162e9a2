"""Teams and keys: made, changed and found, by the commands and the admin API alike."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from proxy.domain.identity import KeyRecord, Secret, TeamRecord
from proxy.domain.keys import ALPHABET, RANDOM_LENGTH, digest, digests, make_key
from proxy.domain.limits import Limit
from proxy.store.audit import GATEWAY, Audit, Told
from proxy.store.changes import (
    BadName,
    Changes,
    Conflict,
    NotKnown,
    check_name,
    is_name,
    known_names,
    rotated,
)
from proxy.store.changes import DirectoryError as DirectoryError  # its users find it here
from proxy.store.client import Store
from proxy.store.reach import unavailable
from proxy.store.records import Records

_TRIES: Final = 100  # of all who change one team at once, one gets through each time
_HINT: Final = 4
AT_ONCE: Final = 250  # keys in one transaction
_MARK: Final = 16


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with the secret that is not kept anywhere."""

    record: KeyRecord
    secret: str


@dataclass(frozen=True, slots=True)
class FoundKey:
    """Whose a secret is; `secret` is None where a rotation has replaced it since."""

    team: TeamRecord
    record: KeyRecord
    secret: Secret | None


class Directory:
    """The teams and keys of a store. Every method may raise StoreUnavailable.

    Every change has its line in the audit, written for `actor`; `told` is told of it, too.
    """

    def __init__(
        self,
        store: Store,
        peppers: Sequence[str],
        actor: str = GATEWAY,
        told: Told | None = None,
    ) -> None:
        self._store = store
        self._records = Records(store)
        self._peppers = tuple(peppers)
        self.audit = Audit(store, actor, told)
        self._changes = Changes(store, self._records, self.audit)

    def acting(self, actor: str, told: Told | None = None) -> Directory:
        """The same directory, whose changes are this actor's."""
        return Directory(self._store, self._peppers, actor, told)

    @property
    def marks(self) -> list[str]:
        """One word a pepper, to tell whether two stores' keys are signed alike."""
        return [digest(pepper, "mark")[:_MARK] for pepper in self._peppers]

    async def create_team(
        self,
        name: str,
        *,
        plan: str = "default",
        limits: tuple[Limit, ...] = (),
        labels: dict[str, str] | None = None,
    ) -> TeamRecord:
        """Raises DirectoryError for a bad name or one that is taken."""
        record = TeamRecord(
            name=name, plan=plan, limits=limits, labels=labels or {}, created_at=_now()
        )
        await self.add_team(record)
        return record

    async def add_team(self, record: TeamRecord) -> None:
        """Raises DirectoryError for a bad name or one that is taken."""
        check_name(record.name, "team")
        if not await self._changes.team(None, record, b""):
            old = await self.find_team(record.name)
            gone = old is not None and old.status == "deleted"
            was = "was deleted, and its usage is kept" if gone else "exists"
            raise DirectoryError(f"the team '{record.name}' {was}; choose another name", "name")

    async def teams(self, *, deleted: bool = False) -> list[TeamRecord]:
        """All teams by name."""
        names = await self.team_names()
        found = await self.find_teams(names)
        if len(found) < len(names):
            raise unavailable(None)
        teams = filter(None, map(found.get, names))
        return [team for team in teams if deleted or team.status != "deleted"]

    async def find_teams(self, names: Sequence[str]) -> dict[str, TeamRecord | None]:
        """Teams, deleted ones too; None where there is none. Left out where its server is away."""
        return await self._records.teams(names)

    async def team_names(self) -> list[str]:
        """The names of all teams, deleted ones too, sorted."""
        return await self._records.team_names()

    async def find_team(self, name: str) -> TeamRecord | None:
        """The team, a deleted one too; None where there never was one."""
        found = await self._records.team(name)
        return found[0] if found else None

    async def team(self, name: str) -> TeamRecord:
        """Raises DirectoryError where there is none."""
        return (await self._team(name))[0]

    async def change_team(
        self, name: str, change: Callable[[TeamRecord], TeamRecord]
    ) -> TeamRecord:
        """Apply a change to the record as it stands, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            record, blob = await self._team(name)
            new = change(record)
            if new == record or await self._changes.team(record, new, blob):
                return new
        raise _busy(f"team '{name}'")

    async def delete_team(self, name: str) -> None:
        """Its keys stop at once; its usage stays on record under its name."""
        await self.change_team(name, lambda r: msgspec.structs.replace(r, status="deleted"))
        for _ in range(_TRIES):
            live = [key for key in await self.keys(name) if key.status != "revoked"]
            stopped = [(key, msgspec.structs.replace(key, status="revoked")) for key in live]
            with contextlib.suppress(Conflict):  # a key was changed meanwhile: look again
                return await self.change_keys(name, stopped)
        raise _busy(f"team '{name}'")

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
        check_name(name, "key")
        await self.team(team)
        secret = make_key(_random(RANDOM_LENGTH))
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
        await self.add_key(record)
        await self.team(team)  # deleted meanwhile, its keys are dead
        return NewKey(record, secret)

    async def add_key(self, record: KeyRecord) -> None:
        """Raises DirectoryError for a bad name or one that is in use."""
        for _ in range(_TRIES):
            if await self._changes.key(record, None, b""):
                return
        raise _busy(f"team '{record.team}'")

    async def change_keys(
        self, team: str, changes: Sequence[tuple[KeyRecord | None, KeyRecord]]
    ) -> None:
        """Many keys of one team, each from what it was (None: new), a few hundred at once.

        Raises DirectoryError where one is no longer what it was, or its name is in use; those
        before it are made then.
        """
        for chunk in (changes[at : at + AT_ONCE] for at in range(0, len(changes), AT_ONCE)):
            await self._changes.keys(team, chunk)

    async def let_in(self, keys: Iterable[KeyRecord]) -> None:
        """Let the secrets of keys lead to them, where they do not yet."""
        several = list(keys)
        for chunk in (several[at : at + AT_ONCE] for at in range(0, len(several), AT_ONCE)):
            await self._changes.let_in(chunk)

    async def keys(self, team: str) -> list[KeyRecord]:
        """A team's keys by name, the revoked ones too."""
        keys = await self._records.keys(team)
        return sorted(keys, key=lambda key: (key.name, key.created_at))

    async def all_keys(self) -> list[KeyRecord]:
        names = await self.team_names()
        return [key for keys in await asyncio.gather(*map(self.keys, names)) for key in keys]

    async def key(self, name: str, team: str | None = None) -> KeyRecord:
        """A key by its id, or by its name where that names only one.

        Raises DirectoryError where there is none or more than one.
        """
        if team:
            await self.team(team)
        keys = await (self.keys(team) if team else self.all_keys())
        found = [key for key in keys if key.id == name]
        found = found or [key for key in keys if key.name == name and key.status != "revoked"]
        if not found:
            of = f" of the team '{team}'" if team else ""
            raise NotKnown(f"there is no key '{name}'{of}; a revoked one goes by its id", "key")
        if len(found) > 1:
            teams = ", ".join(sorted({key.team for key in found}))
            raise BadName(f"several teams have a key '{name}' ({teams}); name the team", "team")
        return found[0]

    async def change_key(
        self, team: str, key_id: str, change: Callable[[KeyRecord], KeyRecord]
    ) -> KeyRecord:
        """Apply a change to the record as it stands, whoever else changes it meanwhile."""
        for _ in range(_TRIES):
            found = await self._records.key(team, key_id)
            if found is None:
                raise NotKnown(f"there is no key '{key_id}'", "key")
            old, blob = found
            new = change(old)
            if new == old or await self._changes.key(new, old, blob):
                return new
        raise _busy(f"key '{key_id}'")

    async def rotate_key(self, key: KeyRecord, overlap: int) -> NewKey:
        """A new secret; the old one goes on for `overlap` seconds.

        Raises DirectoryError for a key that was revoked, or has too many secrets that go on.
        """
        secret = make_key(_random(RANDOM_LENGTH))
        new = self._at_rest(secret)

        def change(record: KeyRecord) -> KeyRecord:
            return rotated(record, new, overlap, _now())

        return NewKey(await self.change_key(key.team, key.id, change), secret)

    async def led(self, key: KeyRecord, secrets: Iterable[Secret]) -> bool:
        """Whether each of these is a secret of the key, or was one that a rotation replaced."""
        return all([await self._records.owner((s.digest,)) == (key.team, key.id) for s in secrets])

    async def find_key(self, secret: str) -> FoundKey | None:
        """Whose a secret is, live or not; None where nobody's."""
        candidates = digests(self._peppers, secret)
        if (owner := await self._records.owner(candidates)) is None:
            return None
        team, found = await self.find_team(owner[0]), await self._records.key(*owner)
        if team is None or found is None:
            return None
        known = next((s for s in found[0].secrets if s.digest in candidates), None)
        return FoundKey(team, found[0], known)

    def _at_rest(self, secret: str) -> Secret:
        return Secret(digest(self._peppers[0], secret), secret[-_HINT:])

    async def _team(self, name: str) -> tuple[TeamRecord, bytes]:
        found = await self._records.team(name) if is_name(name) else None
        if found is None:
            known = known_names(name, [team.name for team in await self.teams()])
            raise NotKnown(f"there is no team '{name}'{known or '; there is none yet'}", "team")
        if found[0].status == "deleted":
            raise NotKnown(f"the team '{name}' was deleted", "team")
        return found


def _busy(what: str) -> DirectoryError:
    return Conflict(f"the {what} is being changed by others; try again")


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _now() -> int:
    return int(time.time())
