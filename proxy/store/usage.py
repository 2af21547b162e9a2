"""Reading the daily rows: the book of record behind every report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from proxy.store.client import Store, translated
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
    async with translated():
        async for field, value in store.redis.hscan_iter(rows_key(team), count=_PAGE):
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
