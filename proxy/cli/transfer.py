"""`visiongate export` and `import`."""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from proxy.cli.document import Entry, plain, read_document, write_document
from proxy.cli.limits import strays
from proxy.cli.output import note, say, show_json
from proxy.cli.session import Session, in_session, waiting_for_input
from proxy.config import ConfigError, Problem
from proxy.config.yamlfile import Document
from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.domain.keys import PREFIX
from proxy.store.directory import DirectoryError

_SIGNS: Final = {"create": "+", "change": "~"}
_TOLD: Final = {
    True: "{created} to create, {changed} to change, {kept} as they should be; nothing was done",
    False: "{created} created, {changed} changed, {kept} as they should be",
}
Record = TeamRecord | KeyRecord


@dataclass(frozen=True, slots=True)
class Change:
    """A record that a file wants otherwise; `old` is None where it is new."""

    old: Record | None
    new: Record

    @property
    def action(self) -> str:
        return "change" if self.old else "create"

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """What differs: before and after."""
        old, new = _shown(self.old), _shown(self.new)
        return {name: (old.get(name), new[name]) for name in new if old.get(name) != new[name]}


@in_session
async def export(args: Namespace, s: Session) -> None:
    teams = await s.directory.teams()
    keys = {team.name: await s.directory.keys(team.name) for team in teams}
    text = write_document(teams, keys, s.directory.marks)
    if args.output in (None, "-"):
        sys.stdout.write(text)
        return
    _write_private(Path(args.output), text)
    count = sum(map(len, keys.values()))
    note(f"{args.output}: teams {len(teams)}, keys {count}; it is as private as the store")


def _write_private(path: Path, text: str) -> None:
    """All of it or nothing, readable by its owner only, whatever was there before."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@in_session
async def restore(args: Namespace, s: Session) -> None:
    with waiting_for_input():  # standard input may be a person
        entries, marks, document, problems = read_document(*_read_text(args.file))
    if problems:
        raise ConfigError(problems)
    plan = _Plan(s, document, await s.directory.teams(deleted=True), await s.directory.all_keys())
    for entry in entries:
        plan.add_team(entry)
    plan.check_names()
    if plan.problems:
        raise ConfigError(plan.problems)
    if set(marks) - set(s.directory.marks):
        note(
            "visiongate: warning: these keys were signed with a pepper that is not configured "
            "here, and will be unknown: add it to VISIONGATE_KEY_PEPPER"
        )
    if not args.dry_run:
        for change in plan.changes:
            await _apply(s, change)
    _tell(args, plan)


def _read_text(file: str) -> tuple[str, str]:
    """The text of a file, and the name to call it."""
    name = "standard input" if file == "-" else file
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem(name, None, "", "is not UTF-8 text")]) from None
    if not text.strip():
        raise ConfigError([Problem(name, None, "", "is empty")])
    return text, name


class _Plan:
    """What a file would create and change, and what is in the way of it."""

    def __init__(
        self, s: Session, document: Document, teams: list[TeamRecord], keys: list[KeyRecord]
    ) -> None:
        self._s = s
        self._document = document
        self._teams = {team.name: team for team in teams}
        self._keys = {key.id: key for key in keys}
        self._owners = {secret.digest: key.id for key in keys for secret in key.secrets}
        self._seen: dict[str, Entry] = {}
        self.changes: list[Change] = []
        self.kept = 0
        self.problems: list[Problem] = []

    def add_team(self, entry: Entry) -> None:
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
            for field, message in strays(self._s.config, new):
                self._tell(entry, field, message)
        if new == old:
            self.kept += 1
        else:
            self.changes.append(Change(old, new))

    def check_names(self) -> None:
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


def _tell(args: Namespace, plan: _Plan) -> None:
    if args.json:
        show_json([_shape(change) for change in plan.changes])
        return
    for change in plan.changes:
        say(f"{_SIGNS[change.action]} {_title(change.new)}")
        for field, (old, new) in change.fields.items():
            was = f"{_word(old)} -> " if change.old else ""
            if change.old or new not in (None, [], {}):
                say(f"    {field}: {was}{_word(new)}")
    created = sum(change.old is None for change in plan.changes)
    changed = len(plan.changes) - created
    form = _TOLD[args.dry_run]
    say(form.format(created=created, changed=changed, kept=plan.kept))


def _shape(change: Change) -> dict[str, Any]:
    new = change.new
    which = {"id": new.id, "team": new.team} if isinstance(new, KeyRecord) else {}
    return {
        "action": change.action,
        "kind": "key" if which else "team",
        **which,
        "name": new.name,
        "changes": {name: {"old": old, "new": new} for name, (old, new) in change.fields.items()},
    }


def _title(record: Record) -> str:
    if isinstance(record, KeyRecord):
        return f"key {record.id} of the team {record.team}"
    return f"team {record.name}"


def _shown(record: Record | None) -> dict[str, Any]:
    """As YAML has it, but for the hashes, which say nothing to anyone."""
    if record is None:
        return {}
    shape = plain(record)
    if isinstance(record, KeyRecord):
        ends = [(f"{PREFIX}…{s['hint']}", s["expires_at"]) for s in shape["secrets"]]
        shape["secrets"] = [f"{end} until {until}" if until else end for end, until in ends]
    return shape


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_word, value)) or "none"
    return "none" if value is None else str(value)


async def _apply(s: Session, change: Change) -> None:
    """Raises DirectoryError where somebody else was faster."""
    old, new = change.old, change.new

    def changed(found: Any) -> Any:
        if found != old:
            raise DirectoryError(f"{_title(new)} was changed meanwhile; import once more")
        return new

    match new, old:
        case TeamRecord(), None:
            await s.directory.add_team(new)
        case KeyRecord(), None:
            await s.directory.add_key(new)
        case TeamRecord(), _:
            await s.directory.change_team(new.name, changed)
        case KeyRecord(), _:
            await s.directory.change_key(new.team, new.id, changed)
