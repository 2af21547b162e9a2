"""Changes of records: each with its line in the audit, and told to every gateway."""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from proxy.config.problems import nearest
from proxy.domain.identity import KeyRecord, Secret, TeamRecord
from proxy.store.audit import Audit
from proxy.store.bulk import write_keys
from proxy.store.client import Store
from proxy.store.records import NameTaken, Records

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)
_ID: Final = re.compile(r"key_[0-9A-Za-z]{12}", re.ASCII)
_FEW: Final = 20  # names that a person still reads
#: Of one key: its record goes with each of its requests.
MOST_SECRETS: Final = 10


class DirectoryError(Exception):
    """What was asked cannot be done; the message is for the person who asked.

    `field` names what of the question is in the way, as the admin API has it.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotKnown(DirectoryError):
    """There is no such team or key."""


class Conflict(DirectoryError):
    """Somebody else was faster; to be tried again."""


class BadName(DirectoryError):
    """What cannot be a name, or names several."""


class Changes:
    """Writes records. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store, records: Records, audit: Audit) -> None:
        self._store = store
        self._records = records
        self._audit = audit

    async def team(self, old: TeamRecord | None, new: TeamRecord, blob: bytes) -> bool:
        """False where the store has another by now."""
        line = self._audit.line(old, new)
        ids = await self._audit.begin([line])
        if not await self._records.write_team(new, blob):
            await self._audit.take_back(ids)
            return False
        self._audit.done([line])
        await self._records.publish(new.name)
        return True

    async def key(self, new: KeyRecord, old: KeyRecord | None, blob: bytes) -> bool:
        """False where the store has another by now. Raises DirectoryError for its name."""
        renamed = old is None or old.name != new.name
        if renamed:
            check_name(new.name, "key")
        line = self._audit.line(old, new)
        ids = await self._audit.begin([line])
        write = self._records.write_named_key if renamed else self._records.write_key
        try:
            done = await write(new, blob)
        except NameTaken:
            await self._audit.take_back(ids)
            raise _name_taken(new.team, new.name) from None
        if not done:
            await self._audit.take_back(ids)
            return False
        self._audit.done([line])
        await self._records.write_auth(new)
        await self._records.publish(new.team)
        return True

    async def keys(self, team: str, changes: Sequence[tuple[KeyRecord | None, KeyRecord]]) -> None:
        """Many keys of one team, each from what it was (None: new), all of them or none.

        Raises DirectoryError where one is no longer what it was, or its name is in use.
        """
        lines = [self._audit.line(old, new) for old, new in changes]
        ids = await self._audit.begin(lines)
        try:
            done = await write_keys(self._store, team, changes)
        except NameTaken as taken:
            await self._audit.take_back(ids)
            raise _name_taken(team, str(taken)) from None
        if not done:
            await self._audit.take_back(ids)
            raise Conflict(f"the keys of the team '{team}' were changed meanwhile; try again")
        self._audit.done(lines)
        secret = [new for old, new in changes if old is None or old.secrets != new.secrets]
        await self.let_in(secret)
        await self._records.publish(team)

    async def let_in(self, keys: Iterable[KeyRecord]) -> None:
        """Let the secrets of keys lead to them, where they do not yet."""
        await asyncio.gather(*map(self._records.write_auth, keys))


def rotated(key: KeyRecord, secret: Secret, overlap: int, now: int) -> KeyRecord:
    """A key with a new secret; those before it go on for `overlap` seconds from `now`.

    Raises DirectoryError for a key that was revoked, or has too many secrets that go on.
    """
    if key.status == "revoked":
        raise DirectoryError(f"the key '{key.name}' was revoked; make a new one", "key")
    ends = now + overlap
    old = [
        replace(s, expires_at=min(s.expires_at or ends, ends))
        for s in key.secrets
        if overlap and (s.expires_at is None or s.expires_at > now)
    ]
    if len(old) >= MOST_SECRETS:
        raise DirectoryError(
            f"{MOST_SECRETS} secrets of the key '{key.name}' still work; wait until one of them "
            "ends, or stop them all with an overlap of 0",
            "overlap",
        )
    return replace(key, secrets=(secret, *old))


def is_name(name: str) -> bool:
    """Whether a team or a key may have this name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, what: str) -> None:
    """Raises BadName for what cannot name a team or a key."""
    if not is_name(name):
        raise BadName(
            f"{name[:80]!r} cannot be a {what}'s name: use up to 64 letters, digits, '.', '_' or "
            "'-', with a letter or digit at both ends",
            "name",
        )
    if _ID.fullmatch(name):
        raise BadName(f"{name!r} would be taken for a key's id; choose another name", "name")


def known_names(name: str, names: Collection[str]) -> str:
    """The end of a message about a name that there is not: one like it, else all, if few."""
    return nearest(name, names if len(names) <= _FEW else difflib.get_close_matches(name, names, 1))


def _name_taken(team: str, name: str) -> DirectoryError:
    return DirectoryError(f"the team '{team}' has a key '{name}'; choose another name", "name")
