"""How long answers keep, what a cache holds, and tasks that are shared."""

from __future__ import annotations

import asyncio
import gc

import pytest

from proxy.images.answer import lifetime
from proxy.images.cache import Cache, Flights
from tests.gateway import until


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"Cache-Control": "max-age=10"}, 10),
        ({"Cache-Control": "MAX-AGE=10, public"}, 10),
        ({"Cache-Control": 'max-age="10"'}, 10),
        ({"Cache-Control": "max-age=10, s-maxage=20"}, 20),
        ({"Cache-Control": "s-maxage=0, max-age=20"}, 0),
        ({"Cache-Control": "max-age=99999999"}, 3600),
        ({"Cache-Control": "max-age=ten"}, 0),
        ({"Cache-Control": "max-age=-5"}, 0),
        ({"Cache-Control": "max-age"}, 0),
        ({"Cache-Control": "immutable"}, 60),
        ({"Cache-Control": "no-store"}, 0),
        ({"Cache-Control": "max-age=10, No-Store"}, 0),
        ({"Cache-Control": "private, max-age=10"}, 0),
        ({"Cache-Control": 'private="x-name", max-age=10'}, 0),
        ({"Cache-Control": "no-cache"}, 0),
        ({"Cache-Control": 'extension="no-store", max-age=10'}, 10),
        ({"Cache-Control": "max-age=10", "Age": "4"}, 6),
        ({"Cache-Control": "max-age=10", "Age": "40"}, 0),
        ({"Vary": "*"}, 0),
        ({"Vary": "Accept-Encoding"}, 60),
        ({"Expires": "0"}, 0),
        ({"Expires": "Thu, 01 Jan 2026 00:01:30 GMT"}, 0),
        (
            {
                "Expires": "Thu, 01 Jan 2026 00:01:30 GMT",
                "Date": "Thu, 01 Jan 2026 00:01:00 GMT",
            },
            30,
        ),
        (
            {"Expires": "Thu, 01 Jan 2026 00:01:30 -0000", "Date": "Thu, 01 Jan 2026 00:01:00 GMT"},
            0,
        ),
    ],
    ids=str,
)
def test_lifetime(headers: dict[str, str], seconds: float) -> None:
    """An answer keeps as long as its headers say to a shared cache, at most an hour."""
    assert lifetime(headers) == seconds


def make_cache(entries: int = 3, size: int = 100) -> tuple[Cache[str], list[float]]:
    clock = [0.0]
    return Cache(entries, size, lambda: clock[0]), clock


def test_least_used_goes_first() -> None:
    """Of too many entries the one that was used longest ago goes."""
    cache, _ = make_cache()
    for key in "abc":
        cache.put(key, key, 1, 10)
    assert cache.get("a") == "a"
    cache.put("d", "d", 1, 10)
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_bytes_are_counted() -> None:
    """Entries go until the bytes fit; what fits in no way is not kept and moves nothing."""
    cache, _ = make_cache()
    cache.put("a", "a", 60, 10)
    cache.put("b", "b", 40, 10)
    cache.put("big", "big", 101, 10)
    assert [cache.get(key) for key in ("a", "b", "big")] == ["a", "b", None]
    cache.put("c", "c", 10, 10)
    assert [cache.get(key) for key in "abc"] == [None, "b", "c"]
    cache.put("b", "B", 90, 10)
    assert [cache.get(key) for key in "bc"] == ["B", "c"]


def test_stale_entries_go() -> None:
    """An entry is gone when its time is up, and what keeps for no time is never there."""
    cache, clock = make_cache()
    cache.put("a", "a", 100, 10)
    cache.put("b", "b", 0, 0)
    clock[0] = 9.9
    assert (len(cache), cache.get("a")) == (1, "a")
    clock[0] = 10
    assert (cache.get("a"), len(cache)) == (None, 0)
    cache.put("c", "c", 100, 10)
    assert cache.get("c") == "c"


async def test_a_failure_that_nobody_saw() -> None:
    """A task that fails as it is ended, after all have left, is no unhandled error."""
    flights: Flights[int] = Flights()
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unhandled.append(told))

    async def fail() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    left = asyncio.create_task(flights.join("a", fail))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait({left})
    await until(lambda: not flights._tasks)
    del left  # its traceback holds the task
    gc.collect()
    assert unhandled == []


async def test_a_flight_forgets() -> None:
    """A flight that has landed, failed or was left is remembered by nobody."""
    flights: Flights[int] = Flights()

    async def land() -> int:
        return 1

    async def fail() -> int:
        raise ValueError

    assert await flights.join("a", land) == 1
    with pytest.raises(ValueError):  # noqa: PT011
        await flights.join("a", fail)
    left = asyncio.create_task(flights.join("a", asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert "a" in flights
    left.cancel()
    await asyncio.wait({left})
    await flights.stop()
    assert "a" not in flights
    assert not flights._tasks
