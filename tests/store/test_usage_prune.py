"""Retention: rows of long ago are deleted, others are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest

from proxy.store import usage
from proxy.store.client import Store
from proxy.store.layout import rows_key
from proxy.store.usage import first_kept, prune, read_rows

DAY = date(2026, 11, 22)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    yield opened
    await opened.close()


async def fill(store: Store, days: int) -> None:
    """Two rows a day, up to DAY."""
    place = rows_key("t")
    words = [
        word
        for back in range(days)
        for key in ("key_1", "key_2")
        for word in (f"{DAY - timedelta(days=back)}|{key}|a|b|p", "1 1 1 0 0 0 1")
    ]
    await store.ask(place, "HSET", place, *words)


async def test_what_is_older(store: Store) -> None:
    """Rows of the days before are deleted and counted; that day's and later ones stay."""
    await fill(store, 700)
    before = date(2026, 1, 1)
    old = (before - (DAY - timedelta(days=699))).days * 2
    assert await prune(store, "t", before) == old
    assert min(row.day for row in await read_rows(store, "t")) == before
    assert len(await read_rows(store, "t")) == 1400 - old
    assert await prune(store, "t", before) == 0
    assert await prune(store, "nobody", before) == 0


async def test_a_bounded_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call deletes a bounded part, and calls enough of them all."""
    await fill(store, 2000)
    monkeypatch.setattr(usage, "_PRUNED", 300)
    first = await prune(store, "t", DAY)
    assert 300 <= first < 3998
    while await prune(store, "t", DAY):
        pass
    assert len(await read_rows(store, "t")) == 2


@pytest.mark.parametrize(
    ("today", "months", "first"),
    [
        ("2026-11-22", 25, "2024-10-01"),
        ("2026-11-01", 0, "2026-11-01"),
        ("2026-01-31", 1, "2025-12-01"),
        ("2026-12-31", 12, "2025-12-01"),
        ("2026-12-31", 10**9, "0001-01-01"),
    ],
)
def test_the_first_day_that_is_kept(today: str, months: int, first: str) -> None:
    """A retention keeps so many whole months beside the one that is now."""
    assert first_kept(date.fromisoformat(today), months) == date.fromisoformat(first)
