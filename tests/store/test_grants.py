"""Grants: an amount once, until its end, whatever windows turn meanwhile."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest

from proxy.access import Plan, open_access
from proxy.domain.errors import LimitExceeded
from proxy.domain.identity import Grant, KeyRecord, TeamRecord, encode_record
from proxy.domain.limits import NANO, Limit, parse_limit
from proxy.domain.windows import stamp_of
from proxy.rules import build_plans
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError
from proxy.store.grants import carry_grants, give
from proxy.store.keyring import KeyRing
from proxy.store.layout import rows_key, team_keys
from tests.gateway import make_config
from tests.store.ledgers import PLANS, open_till

MONTH, DAY = parse_limit("50 usd/month"), parse_limit("100 tokens/day")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def granted(limit: str, day: str, until: str | None) -> Grant:
    """A grant as it was given on a day."""
    what = parse_limit(limit)
    return Grant(what, stamp_of(what.window, at(day) * 1000), at(until) if until else None)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def plans() -> dict[str, Plan]:
    return build_plans(make_config("redis://127.0.0.1:1", "http://127.0.0.1:1/v1"))


class Team:
    """A team with limits, rows and grants; `look` is what a gateway does now and then."""

    def __init__(self, store: Store, plans: dict[str, Plan]) -> None:
        self.store, self.plans = store, plans
        self.directory = Directory(store, ["a pepper of the tests"])

    async def make(self, *grants: Grant, limits: Sequence[Limit] = (MONTH, DAY)) -> None:
        record = TeamRecord(name="t", limits=tuple(limits), grants=grants, created_at=1)
        await self.directory.add_team(record)

    async def used(self, day: str, *, tokens: int = 0, usd: int = 0, model: str = "m") -> None:
        place = rows_key("t")
        row = f"1 {tokens} 0 0 0 0 {usd * NANO}"
        await self.store.ask(place, "HSET", place, f"{day}|key_1|{model}|p", row)

    async def look(self, now: str) -> list[str]:
        """The grants after a look: amount, window and where it is."""
        await self.again(now)
        team = await self.directory.team("t")
        return [f"{g.limit} @{g.stamp}" for g in team.grants]

    async def again(self, now: str) -> bool:
        team = await self.directory.team("t")
        return await carry_grants(self.store, self.directory, team, self.plans, at(now))


@pytest.fixture
def team(store: Store, plans: dict[str, Plan]) -> Team:
    return Team(store, plans)


def month(text: str) -> int:
    return stamp_of("month", at(text) * 1000)


async def test_what_is_left_goes_on(team: Team) -> None:
    """20 usd until the year's end, of which November took 5, are 15 in December."""
    await team.make(granted("20 usd/month", "2026-11-22", "2026-12-31"))
    await team.used("2026-11-03", usd=40)
    await team.used("2026-11-30", usd=15)
    await team.used("2026-12-01", usd=9)
    assert await team.look("2026-11-30T23:59") == [f"20 usd/month @{month('2026-11-01')}"]
    assert await team.look("2026-12-01") == [f"15 usd/month @{month('2026-12-01')}"]
    assert not await team.again("2026-12-01")


@pytest.mark.parametrize(("used", "left"), [(50, ["20"]), (60, ["10"]), (70, []), (99, [])])
async def test_only_what_was_beyond_the_limit(team: Team, used: int, left: list[str]) -> None:
    """The limit itself is used first; a grant that is spent is over."""
    await team.make(granted("20 usd/month", "2026-11-22", "2026-12-31"))
    await team.used("2026-11-30", usd=used)
    found = await team.look("2026-12-01")
    assert found == [f"{amount} usd/month @{month('2026-12-01')}" for amount in left]


async def test_several_windows(team: Team) -> None:
    """Each window that went by takes its own, also where nobody looked for days."""
    await team.make(granted("60 tokens/day", "2026-11-01", "2026-12-01"))
    for day, tokens in (("2026-11-01", 120), ("2026-11-02", 90), ("2026-11-03", 130)):
        await team.used(day, tokens=tokens)
    assert await team.look("2026-11-05") == [
        f"10 tokens/day @{stamp_of('day', at('2026-11-05') * 1000)}"
    ]


async def test_who_ends_first_is_spent_first(team: Team) -> None:
    """Of two grants the one that ends first pays first, also where it has ended meanwhile."""
    late = granted("20 usd/month", "2026-11-02", "2026-12-31")
    soon = granted("10 usd/month", "2026-11-02", "2026-11-20")
    await team.make(late, soon)
    await team.used("2026-11-05", usd=65)
    assert len(await team.look("2026-11-25")) == 2
    assert await team.look("2026-12-01") == [f"15 usd/month @{month('2026-12-01')}"]


async def test_who_had_ended_is_not_spent(team: Team) -> None:
    """What was used after a grant's end comes off the one that still goes on."""
    late = granted("20 usd/month", "2026-11-02", "2026-12-31")
    soon = granted("10 usd/month", "2026-11-02", "2026-11-20")
    await team.make(late, soon)
    await team.used("2026-11-05", usd=53)
    await team.used("2026-11-20", usd=12)
    assert await team.look("2026-12-01") == [f"8 usd/month @{month('2026-12-01')}"]


async def test_a_grant_of_long_ago(team: Team) -> None:
    """A grant that nobody looked at for decades is carried at once, not window by window."""
    first = granted("20 tokens/day", "1970-01-01", "2999-01-01")
    for n in range(100):
        await team.used(f"2026-11-{n % 28 + 1:02}", tokens=100, model=f"m{n}")
    await team.make(first, limits=[parse_limit("400 tokens/day")])
    async with asyncio.timeout(1):
        (left,) = await team.look("2026-12-01")
    assert left.startswith("20 tokens/day")


async def test_not_without_end(store: Store) -> None:
    """A team has at most a hundred grants that go on."""
    directory = Directory(store, ["a pepper of the tests"])
    await directory.create_team("t", limits=(MONTH,))
    given = granted("1 usd/month", "2026-11-02", "2999-01-01")
    await directory.change_team("t", lambda t: msgspec.structs.replace(t, grants=(given,) * 99))
    assert len((await give(store, directory, "t", parse_limit("1 usd/month"))).grants) == 100
    with pytest.raises(DirectoryError, match="raise its limit instead"):
        await give(store, directory, "t", parse_limit("1 usd/month"))


async def test_the_limit_of_a_model(team: Team) -> None:
    """A grant for a model is spent by that model only."""
    limit = Limit(MONTH.amount, "usd", "month", "a")
    grant = granted("20 usd/month", "2026-11-02", "2026-12-31")
    await team.make(
        msgspec.structs.replace(grant, limit=replace(grant.limit, model="a")), limits=[limit]
    )
    await team.used("2026-11-05", usd=99, model="b")
    await team.used("2026-11-05", usd=57, model="a")
    assert await team.look("2026-12-02") == [f"13 usd/month on a @{month('2026-12-01')}"]


async def test_while_one_is_in_flight(team: Team, store: Store) -> None:
    """Nothing is carried while a request of the old window may yet use some of it."""
    await team.make(granted("20 usd/month", "2026-11-22", "2026-12-31"))
    place = team_keys("t")[2]

    async def hold(state: int) -> None:
        held = struct.pack("<15d", at("2026-11-30T23:59") * 1000, state, *[0] * 13)
        await store.ask(place, "HSET", place, "r1", held)

    await store.ask(place, "HSET", place, "over", b"")
    for live in (0, 1):
        await hold(live)
        assert await team.look("2026-12-01") == [f"20 usd/month @{month('2026-11-01')}"]
    await hold(2)
    assert await team.look("2026-12-01") == [f"20 usd/month @{month('2026-12-01')}"]


async def test_an_hour_waits_for_none_of_its_day(team: Team, store: Store) -> None:
    """What is in flight since this day holds back no grant of an hour."""
    await team.make(granted("5 requests/hour", "2026-11-02T01:00", "2026-12-01"))
    place = team_keys("t")[2]
    held = struct.pack("<14d", at("2026-11-02T02:30") * 1000, 1, *[0] * 12)
    await store.ask(place, "HSET", place, "r1", held)
    assert await team.look("2026-11-02T03:00") == []


@pytest.mark.parametrize(
    ("until", "now"),
    [("2026-12-05", "2026-12-06"), ("2026-12-01", "2026-12-01"), (None, "2026-12-01")],
)
async def test_what_has_ended(team: Team, until: str | None, now: str) -> None:
    """A grant that has ended is gone once its window is."""
    await team.make(granted("20 usd/month", "2026-11-22", until))
    assert await team.look(now) == []


async def test_clocks_that_differ(team: Team) -> None:
    """A gateway whose clock is behind takes no grant back, so that nothing is taken off twice."""
    await team.make(granted("50 tokens/day", "2026-11-01", "2026-12-01"))
    await team.used("2026-11-01", tokens=120)
    left = [f"30 tokens/day @{stamp_of('day', at('2026-11-02') * 1000)}"]
    for now in ("2026-11-02", "2026-11-01T23:59:59", "2026-11-02"):
        assert await team.look(now) == left


async def test_a_window_to_come(team: Team) -> None:
    """A grant for a window that has begun by the store's clock alone is left as it is."""
    await team.make(granted("5 requests/hour", "2026-11-02T01:00", "2026-12-01"))
    assert len(await team.look("2026-11-02T00:59:59")) == 1


async def test_changed_meanwhile(team: Team) -> None:
    """A team that was changed since it was read is left to the next look."""
    await team.make(granted("20 usd/month", "2026-11-22", "2026-12-31"))
    before = await team.directory.team("t")
    await team.directory.change_team("t", lambda t: msgspec.structs.replace(t, limits=()))
    await carry_grants(team.store, team.directory, before, team.plans, at("2026-12-01"))
    assert (await team.directory.team("t")).grants == before.grants


def test_an_access_ends_with_its_grant(plans: dict[str, Plan]) -> None:
    """A grant counts until its end and not after it, and the access says when that is."""
    ends = (
        granted("5 usd/month", "2026-11-02", "2026-11-20"),
        granted("2 usd/month", "2026-11-02", "2026-11-30"),
    )
    team = TeamRecord(name="t", limits=(MONTH,), grants=ends, created_at=1)
    blobs = encode_record(team), encode_record(KeyRecord(id="k", team="t", name="n", created_at=1))
    for now, grant, until in (
        ("2026-11-19T23:59:59", 7, at("2026-11-20")),
        ("2026-11-20", 2, at("2026-11-30")),
        ("2026-11-30", 0, float("inf")),
    ):
        access = open_access("", *blobs, plans, at(now))
        (bound,) = access.bounds
        assert (bound.grant, access.until) == (grant * NANO, until)


async def test_a_cached_access_ends_with_its_grant(
    store: Store, plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that knows a key gives it no more of a grant from the moment that it ends."""
    directory = Directory(store, ["a pepper of the tests"])
    await directory.create_team("t", limits=(MONTH,))
    secret = (await directory.create_key("t", "ci")).secret
    ends = int(time.time()) + 1000
    await give(store, directory, "t", parse_limit("20 usd/month"), ends)
    keyring = KeyRing(store, ["a pepper of the tests"], plans)
    for now, amount in ((ends - 1, 20 * NANO), (ends, 0)):
        clock = SimpleNamespace(time=lambda now=now: now, monotonic=time.monotonic)
        monkeypatch.setattr("proxy.store.keyring.time", clock)
        (bound,) = (await keyring.authenticate(secret)).bounds
        assert bound.grant == amount


async def test_a_grant_that_ends_under_way(store_url: str) -> None:
    """A request whose key was looked up before a grant's end is held to what is left after it."""
    async with open_till(store_url) as till:
        now = int(time.time())
        ended = Grant(parse_limit("100 tokens/day"), stamp_of("day", now * 1000), now - 60)
        limits = (parse_limit("10 tokens/day"),)
        record = TeamRecord(name="vision", limits=limits, grants=(ended,), created_at=1)
        await till.directory.add_team(record)
        found = await till.access()
        before = open_access(found.digest, found.team_blob, found.key_blob, PLANS, now - 61)
        with pytest.raises(LimitExceeded):
            async with till.reserve(before, 50):
                pass
        async with till.reserve(before, 10):
            pass
