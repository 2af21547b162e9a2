"""What a document of teams and keys would create and change, and doing it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from msgspec.structs import replace

from proxy.config import Config, ConfigError, Problem
from proxy.config.yamlfile import Document
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.manage.checks import strays
from proxy.manage.document import Entry, make_document, read_document
from proxy.manage.jsonfile import JsonDocument
from proxy.store.directory import AT_ONCE, Directory, DirectoryError
from proxy.store.shapes import differences

Record = TeamRecord | KeyRecord

#: Told after every few records: how many are done of how many.
Progress = Callable[[int, int], None]

PEPPER_MISSING: Final = (
    "these keys were signed with a pepper that is not configured here, and will be unknown: add "
    "it to VISIONGATE_KEY_PEPPER"
)


@dataclass(frozen=True, slots=True)
class Change:
    """A record that a document wants otherwise; `old` is None where it is new."""

    old: Record | None
    new: Record

    @property
    def action(self) -> str:
        return "change" if self.old else "create"

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """What differs: before and after."""
        return differences(self.old, self.new)

    @property
    def title(self) -> str:
        if isinstance(self.new, KeyRecord):
            return f"key {self.new.id} of the team {self.new.team}"
        return f"team {self.new.name}"

    def shape(self) -> dict[str, Any]:
        new = self.new
        which = {"id": new.id, "team": new.team} if isinstance(new, KeyRecord) else {}
        changes = {name: {"old": old, "new": now} for name, (old, now) in self.fields.items()}
        kind = "key" if which else "team"
        return {"action": self.action, "kind": kind, **which, "name": new.name, "changes": changes}


async def export_all(directory: Directory) -> dict[str, Any]:
    """Every team that was not deleted and its keys, as plain data. May raise StoreUnavailable."""
    teams = await directory.teams()
    keys = {team.name: await directory.keys(team.name) for team in teams}
    return make_document(teams, keys, directory.marks)


async def plan_import(
    directory: Directory, config: Config, document: Document | JsonDocument
) -> Import:
    """What it would change. Raises ConfigError with everything that is wrong with it, and
    StoreUnavailable.
    """
    # In a thread: of thousands of keys it takes seconds, in which a gateway has others to serve.
    entries, marks, problems = await asyncio.to_thread(read_document, document)
    if problems:
        raise ConfigError(problems)
    teams, keys = await directory.teams(deleted=True), await directory.all_keys()
    await _keep_newer(directory, keys, [key for team in entries for key in team.keys])
    plan = Import(config, document, teams, keys)
    await asyncio.to_thread(plan.add, entries)
    if plan.problems:
        raise ConfigError(plan.problems)
    plan.strange = bool(set(marks) - set(directory.marks))
    return plan


async def _keep_newer(
    directory: Directory, keys: Iterable[KeyRecord], entries: Iterable[Entry]
) -> None:
    """A document that is older than a key's last rotation brings none of its secrets back."""
    known = {key.id: key for key in keys if key.secrets}
    for entry in entries:
        old, given = known.get(entry.given["id"]), entry.given.get("secrets")
        if old is None or not given or old.secrets[0].digest in {s.digest for s in given}:
            continue
        if await directory.led(old, given):
            entry.given["secrets"] = old.secrets


class Import:
    """What a document would create and change, and what is in the way of it.

    `kept`: records that are as they should be; `strange`: signed by a pepper not known here.
    """

    def __init__(
        self,
        config: Config,
        document: Document | JsonDocument,
        teams: list[TeamRecord],
        keys: list[KeyRecord],
    ) -> None:
        self._config = config
        self._document = document
        self._teams = {team.name: team for team in teams}
        self._keys = {key.id: key for key in keys}
        self._owners = {secret.digest: key.id for key in keys for secret in key.secrets}
        self._seen: dict[str, Entry] = {}
        self._same: list[KeyRecord] = []
        self.changes: list[Change] = []
        self.kept = 0
        self.strange = False
        self.problems: list[Problem] = []

    def add(self, entries: Sequence[Entry]) -> None:
        """Hold the teams of the document, and their keys, against what is there."""
        for entry in entries:
            self._add_team(entry)
        self._check_names()

    def _add_team(self, entry: Entry) -> None:
        name = entry.given["name"]
        old = self._teams.get(name)
        new = (
            replace(old, **entry.given)
            if old
            else TeamRecord(**{"created_at": int(time.time()), **entry.given})
        )
        if old and old.status == "deleted":
            self._tell(entry, "name", f"the team '{name}' was deleted here; choose another name")
        self._note(f"team {name}", entry, old, new)
        for key in entry.keys:
            self._add_key(name, key)

    def _add_key(self, team: str, entry: Entry) -> None:
        key_id = entry.given["id"]
        old = self._keys.get(key_id)
        if old and old.team != team:
            self._tell(entry, "id", f"is a key of the team '{old.team}'")
            return
        if old is None and not entry.given.get("secrets"):
            self._tell(entry, "secrets", "required for a new key; `key create` makes one")
        if old and old.status == "revoked":
            entry.given["status"] = "revoked"  # which is for good: an old file brings none back
        new = (
            replace(old, **entry.given)
            if old
            else KeyRecord(**{"created_at": int(time.time()), **entry.given, "team": team})
        )
        for secret in new.secrets:
            if self._owners.setdefault(secret.digest, key_id) != key_id:
                self._tell(entry, "secrets", f"a secret of the key {self._owners[secret.digest]}")
        self._note(key_id, entry, old, new)
        self._keys[key_id] = new

    def _note(self, what: str, entry: Entry, old: Record | None, new: Record) -> None:
        if what in self._seen:
            self._tell(entry, "id" if "id" in entry.given else "name", "is in the file twice")
        self._seen[what] = entry
        if new.status != "revoked":
            for field, message in strays(self._config, new):
                self._tell(entry, field, message)
        if new != old:
            self.changes.append(Change(old, new))
            return
        self.kept += 1
        if isinstance(new, KeyRecord):
            self._same.append(new)

    def _check_names(self) -> None:
        """No two live keys of a team may have one name, whichever order they come in."""
        names: dict[tuple[str, str], str] = {}
        for key in sorted(self._keys.values(), key=lambda key: key.id in self._seen):
            if key.status == "revoked":
                continue
            other = names.setdefault((key.team, key.name), key.id)
            if other != key.id and key.id in self._seen:
                message = f"the key {other} of the team '{key.team}' has this name"
                self._tell(self._seen[key.id], "name", message)

    def _tell(self, entry: Entry, field: str, message: str) -> None:
        self.problems.append(self._document.problem((*entry.path, field), message))

    async def apply(self, directory: Directory, progress: Progress) -> None:
        """Do it. What was done before an error stays done: to go on, import once more.

        Raises DirectoryError where somebody else was faster, and StoreUnavailable.
        """
        done, total = 0, len(self.changes)
        for team, changes in groupby(self.changes, key=lambda change: _key_team(change.new)):
            several = list(changes)
            size = AT_ONCE if team else 1
            for chunk in (several[at : at + size] for at in range(0, len(several), size)):
                await _apply(directory, team, chunk)
                done += len(chunk)
                progress(done, total)
        # An import that broke off may have left keys whose secrets do not lead to them yet.
        await directory.let_in(self._same)


def _key_team(record: Record) -> str | None:
    return record.team if isinstance(record, KeyRecord) else None


async def _apply(directory: Directory, team: str | None, changes: list[Change]) -> None:
    if team is not None:
        keys: Any = [(change.old, change.new) for change in changes]
        await directory.change_keys(team, keys)
        return
    (change,) = changes
    if not isinstance(change.new, TeamRecord):
        raise TypeError("a key without a team")
    new = change.new
    if change.old is None:
        await directory.add_team(new)
        return

    def changed(found: TeamRecord) -> TeamRecord:
        if found != change.old:
            raise DirectoryError(f"{change.title} was changed meanwhile; import once more")
        return new

    await directory.change_team(new.name, changed)


def tally(changes: list[Change], kept: int) -> Mapping[str, int]:
    """How many records are new, changed, and as they should be."""
    created = sum(change.old is None for change in changes)
    return {"created": created, "changed": len(changes) - created, "kept": kept}


def worded(value: Any) -> str:
    """A field of a change in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(worded, value)) or "none"
    return "none" if value is None else str(value)
