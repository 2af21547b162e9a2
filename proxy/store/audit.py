"""The audit: who changed which team, key or target, when, and from what to what.

A line is written before its change, since the two are in different slots and no transaction
holds both: no change is without a line, whatever dies between them. It is taken back where the
change was refused; it stays where the process or the store was lost on the way, and then says
what was begun.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from proxy.domain.identity import KeyRecord, TeamRecord
from proxy.store.client import Store
from proxy.store.layout import AUDIT
from proxy.store.shapes import differences, when

#: About as many lines are kept; the server drops older ones by whole blocks.
KEPT: Final = 100_000
GATEWAY: Final = "visiongate"
_ACTOR: Final = 64  # characters of what a person may say of themselves
_PAGE: Final = 1_000
_STRANGE: Final = re.compile(r"[^\w .,:;@/+=()-]+")

Record = TeamRecord | KeyRecord

#: What a new status says was done.
_STATUS: Final = {
    "deleted": "delete",
    "revoked": "revoke",
    "paused": "pause",
    "active": "resume",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One change. `before` and `after` have the fields that changed; `key` is an id or "", `team`
    "" where it is a target's.
    """

    actor: str
    action: str
    team: str
    key: str
    name: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def shape(self) -> dict[str, Any]:
        """As the commands and the admin API have it, but for its time and id."""
        return {name: getattr(self, name) for name in self.__slots__} | {"key": self.key or None}


#: Told of every change that was made.
Told = Callable[[Line], None]


class Audit:
    """Writes lines for one actor. Every method may raise StoreUnavailable."""

    def __init__(self, store: Store, actor: str, told: Told | None = None) -> None:
        self._store = store
        self.actor = actor
        self._told = told

    def line(self, old: Record | None, new: Record) -> Line:
        """What a change of a record is called, and what it changes."""
        fields = differences(old, new)
        return Line(
            actor=self.actor,
            action=_action(old, new),
            team=new.team if isinstance(new, KeyRecord) else new.name,
            key=new.id if isinstance(new, KeyRecord) else "",
            name=new.name,
            before={name: was for name, (was, _) in fields.items()} if old else {},
            after={name: now for name, (_, now) in fields.items()},
        )

    async def begin(self, lines: Sequence[Line]) -> list[bytes]:
        """Write lines of what is to be done next; their ids."""

        async def write(client: Any) -> list[bytes]:
            pipeline = client.pipeline(transaction=False)
            for line in lines:
                pipeline.xadd(AUDIT, _fields(line), maxlen=KEPT, approximate=True)
            return list(await pipeline.execute())

        return await self._store.use(AUDIT, write, twice=False)

    async def take_back(self, ids: Sequence[bytes]) -> None:
        """For changes that were not made."""
        await self._store.ask(AUDIT, "XDEL", AUDIT, *ids)

    def done(self, lines: Sequence[Line]) -> None:
        if self._told is not None:
            for line in lines:
                self._told(line)


async def read_audit(
    store: Store, since: int | None = None, team: str | None = None, most: int = KEPT
) -> list[dict[str, Any]]:
    """The newest lines, at most `most` of them, oldest first; `since` is seconds since 1970.

    Each has id and time, and what `Line` has.
    """
    found: list[dict[str, Any]] = []
    async for line in _newest_first(store, since):
        if team is None or line["team"] == team:
            found.append(line)
            if len(found) == most:
                break
    return found[::-1]


async def _newest_first(store: Store, since: int | None) -> AsyncIterator[dict[str, Any]]:
    first, last = "-" if since is None else str(since * 1000), "+"
    while True:
        page = await store.use(AUDIT, _page(first, last))
        for entry, fields in page:
            yield _shape(entry.decode(), fields)
        if len(page) < _PAGE:
            return
        last = f"({page[-1][0].decode()}"


def _page(first: str, last: str) -> Callable[[Any], Awaitable[list[tuple[bytes, Any]]]]:
    async def read(client: Any) -> list[tuple[bytes, Any]]:
        return list(await client.xrevrange(AUDIT, last, first, count=_PAGE))

    return read


def clean(actor: str) -> str:
    """What somebody calls themselves, fit for a table and a log: at most 64 plain characters."""
    return " ".join(_STRANGE.sub(" ", actor).split())[:_ACTOR]


def _action(old: Record | None, new: Record) -> str:
    kind = "key" if isinstance(new, KeyRecord) else "team"
    if old is None:
        return f"{kind}.create"
    if old.status != new.status:
        return f"{kind}.{_STATUS.get(new.status, 'change')}"
    if isinstance(old, KeyRecord) and isinstance(new, KeyRecord) and old.secrets != new.secrets:
        return "key.rotate"
    granted = (
        isinstance(old, TeamRecord) and isinstance(new, TeamRecord) and old.grants != new.grants
    )
    return f"{kind}.grant" if granted else f"{kind}.change"


def _fields(line: Line) -> dict[str, str | bytes]:
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value)
        for name in line.__slots__
        for value in (getattr(line, name),)
    }


def _shape(entry: str, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    seconds = int(entry.partition("-")[0]) // 1000
    return {
        "id": entry,
        "time": when(seconds),
        **{name: text.get(name, "") for name in ("actor", "action", "team")},
        "key": text.get("key") or None,
        "name": text.get("name", ""),
        **{name: msgspec.json.decode(text.get(name, "{}")) for name in ("before", "after")},
    }
