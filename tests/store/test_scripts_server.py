"""The scripts and the server: exact numbers, memory that is full, scripts that are forgotten."""

from __future__ import annotations

import math
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from proxy.domain.errors import StoreUnavailable
from proxy.domain.limits import LARGEST
from proxy.store.client import Store
from proxy.store.figures import CLOCK, counters_of
from proxy.store.layout import team_keys
from tests.store.scripts import (
    HOUR,
    NAMES,
    NOTHING,
    TEAM_RECORD,
    Bound,
    Scripts,
    at,
    connect,
    seeded,
    tokens,
    usd,
)

NOON = at("2026-11-22T12:00:00")


@pytest.fixture
def scripts(store_url: str) -> Iterator[Scripts]:
    with connect(store_url) as client:
        yield Scripts(client)
        client.config_set("maxmemory", 0)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("script", [*NAMES, "replace"])
def test_declared(script: str) -> None:
    """Every script starts with its shebang, so that it runs under the flags it declares."""
    flags = {"reserve": "", "replace": ""}.get(script, " flags=allow-oom")
    assert seeded(script, []).partition("\n")[0] == "#!lua" + flags


@pytest.mark.parametrize("amount", [LARGEST, LARGEST - 1, 1234567890123456, 123456789012345])
def test_large(scripts: Scripts, amount: int) -> None:
    """Nano-usd are exact to the last one that a limit may have."""
    limit = Bound(amount, "usd", "month")
    assert scripts.reserve("r1", usd(amount), limit, now=NOON)[0] == "ok"
    assert scripts.peek(limit, now=NOON) == [0, amount, amount]
    assert scripts.settle("r1", usd(amount - 1), now=NOON) == "settled"
    assert scripts.contents().rows == {"2026-11-22|k1|m1|p1": [1, 0, 0, 0, 0, 0, amount - 1]}
    assert scripts.reserve("r2", usd(2), limit, now=NOON)[0] == "refused"
    assert scripts.reserve("r3", usd(1), limit, now=NOON)[0] == "ok"


def test_large_bucket(scripts: Scripts) -> None:
    """A bucket of the largest amount is exact until it leaks."""
    limit = Bound(LARGEST, "usd", "minute")
    assert scripts.reserve("r1", usd(LARGEST - 1), limit, now=NOON)[0] == "ok"
    assert scripts.reserve("r2", usd(2), limit, now=NOON)[2:] == [LARGEST - 1, 0, LARGEST]
    assert scripts.reserve("r3", usd(1), limit, now=NOON)[0] == "ok"


def test_no_negative_zero(scripts: Scripts) -> None:
    """Giving everything back leaves zeros without a sign."""
    limits = (Bound(9, "tokens", "minute"), Bound(9, "usd", "minute"), Bound(9))
    scripts.reserve("r1", tokens(0), *limits, now=NOON)
    scripts.sweep(now=NOON + 60_000)
    scripts.settle("r1", NOTHING, now=NOON + 60_000)
    scripts.reserve("r2", tokens(9), *limits, now=NOON + 60_000)
    scripts.settle("r2", NOTHING, now=NOON + 60_000)
    levels = [level for _, level, _ in scripts.contents().buckets.values()]
    assert [(level, math.copysign(1, level)) for level in levels] == [(0, 1)] * 2
    assert scripts.peek(*limits, now=NOON + 60_000) == [0, 0, 9] * 3


def test_servers_clock(scripts: Scripts) -> None:
    """Without a time of the caller's own, the server's clock counts."""
    seconds, micros = scripts.client.time()
    reply = scripts.run("peek", "", b"", CLOCK)
    assert 0 <= reply[0] - (seconds * 1000 + micros // 1000) < 10_000


def test_memory_full(scripts: Scripts) -> None:
    """When memory is short nothing new is reserved, and what is reserved can still be settled."""
    for id in ("r1", "r2"):
        scripts.reserve(id, tokens(9), now=NOON)
    scripts.client.config_set("maxmemory", 1)
    with pytest.raises(redis.OutOfMemoryError):
        scripts.reserve("r3", tokens(9), now=NOON)
    assert scripts.renew(("r1", tokens(5)), now=NOON + 1) == ["live"]
    assert scripts.peek(Bound(99), now=NOON + 1) == [0, 18, 99]
    assert scripts.sweep(now=NOON + 30_000) == 1
    assert scripts.settle("r1", tokens(7), now=NOON + 30_001) == "settled"
    assert scripts.settle("r2", tokens(7), now=NOON + 30_001) == "late"
    assert scripts.peek(Bound(99), now=NOON + 30_001) == [14, 0, 99]


def settlement(id: str) -> list[Any]:
    return [NOON, id, "p1", struct.pack("<7d", *tokens(1), 0, 0), 0]


def test_a_settlement_that_cannot_be_read(scripts: Scripts) -> None:
    """Figures that are none fail before anything is written: the reservation is as it was."""
    scripts.reserve("r1", tokens(9), now=NOON)
    before = scripts.contents()
    with pytest.raises(redis.ResponseError):
        scripts.run("settle", NOON, "r1", "p1", b"short", 0)
    assert scripts.contents() == before


@pytest.mark.parametrize("place", [5, *range(6, 13), 14, 15])
def test_a_posting_that_cannot_be_read(scripts: Scripts, place: int) -> None:
    """The same of a posting, wherever the bad word stands, and also where an hour has turned."""
    scripts.reserve("r1", tokens(9), now=NOON - HOUR)
    scripts.peek(now=NOON)
    before = scripts.contents()
    words: list[Any] = ["r2", "k1", "m1", "p1", NOON, *tokens(1), 0, 0, "team|usd|minute|*", 9, 5]
    words[place - 1] = "no number"
    with pytest.raises(redis.ResponseError):
        scripts.run("post", NOON, *words)
    assert scripts.contents() == before


async def test_flushed(store: Store) -> None:
    """A server that has forgotten a script is given it again, in the same call."""
    keys = team_keys("vision")
    for _ in range(2):
        await store.redis.script_flush()
        assert await store.run("sweep", keys, NOON, 1) == 0
        await store.redis.script_flush()
        calls = [(keys, settlement(id)) for id in ("r1", "r2", "r3")]
        assert await store.run_many("settle", calls) == [[b"absent"]] * 3


async def test_one_of_many_fails(store: Store) -> None:
    """Of many calls one that fails leaves the others their answers."""
    await store.redis.set(team_keys("bad")[2], "not a hash")
    calls = [(team_keys(team), settlement("r1")) for team in ("vision", "bad", "search")]
    first, failed, last = await store.run_many("settle", calls)
    assert (first, last) == ([b"absent"], [b"absent"])
    assert isinstance(failed, StoreUnavailable)


async def test_full_is_unavailable(store: Store) -> None:
    """A store without memory is a store that cannot be used, to the gateway."""
    await store.redis.config_set("maxmemory", 1)
    records, key = [TEAM_RECORD, b""], ["k1", "m1", "p1"]
    words: list[Any] = ["", "r1", bytes(56), bytes(24), *records, *key, *counters_of("k1", "m1")]
    with pytest.raises(StoreUnavailable):
        await store.run("reserve", team_keys("vision"), *words)
    await store.redis.config_set("maxmemory", 0)


async def test_replace(store: Store) -> None:
    """A record is replaced only if it is still the one that was read."""
    keys = team_keys("vision")
    assert await store.run("replace", keys, "team", b"", b"one") == 1
    assert await store.run("replace", keys, "team", b"", b"two") == 0
    assert await store.run("replace", keys, "team", b"one", b"two") == 1
    assert await store.redis.hget(keys[0], "team") == b"two"
