"""The daily rows: the book of record behind every report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from proxy.store.client import Store
from proxy.store.layout import rows_key

GROUPS: Final = ("day", "team", "key", "model", "provider")
FIGURES: Final = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "image_tokens",
    "images",
    "nano_usd",
)
_PAGE: Final = 500
_PRUNED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """What a key used of a model at a provider on a day (UTC). `key` is its id."""

    day: date
    team: str
    key: str
    model: str
    provider: str
    figures: tuple[int, ...]


async def read_rows(
    store: Store, team: str, since: date | None = None, until: date | None = None
) -> list[Row]:
    """A team's rows of the days from `since` to `until`, both included."""
    rows: list[Row] = []
    place, cursor = rows_key(team), None
    while cursor != 0:
        cursor, page = await store.ask(place, "HSCAN", place, cursor or 0, "COUNT", _PAGE)
        for field, value in page.items():
            row = _row(team, field.decode(), value.decode())
            if (since is None or row.day >= since) and (until is None or row.day <= until):
                rows.append(row)
    # HSCAN may tell a field twice while the hash grows.
    return list({(r.day, r.key, r.model, r.provider): r for r in rows}.values())


def group(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Sums per group, ordered by the group."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in rows:
        name = tuple(str(getattr(row, field)) for field in by)
        total = sums.setdefault(name, [0] * len(FIGURES))
        for index, figure in enumerate(row.figures):
            total[index] += figure
    return {name: tuple(sums[name]) for name in sorted(sums)}


def _row(team: str, field: str, value: str) -> Row:
    day, key, rest = field.split("|", 2)
    model, _, provider = rest.rpartition("|")
    return Row(date.fromisoformat(day), team, key, model, provider, tuple(map(int, value.split())))


def first_kept(today: date, months: int) -> date:
    """The first day that a retention of so many months keeps, beside the month that is now."""
    year, month = divmod(today.year * 12 + today.month - 1 - months, 12)
    return date(year, month + 1, 1) if year >= 1 else date.min


async def prune(store: Store, team: str, before: date) -> int:
    """Delete a team's rows of the days before; how many, about `_PRUNED` at most in one call.

    To be called again while it deletes any, and then once a day. Raises StoreUnavailable.
    """
    place, cursor, gone = rows_key(team), None, 0
    while cursor != 0 and gone < _PRUNED:
        cursor, page = await store.ask(place, "HSCAN", place, cursor or 0, "COUNT", _PAGE)
        old = [field for field in page if date.fromisoformat(field.decode()[:10]) < before]
        if old:
            gone += await store.ask(place, "HDEL", place, *old)
    return gone
