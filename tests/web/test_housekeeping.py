"""What a gateway does beside serving."""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
import redis

from proxy import housekeeping
from proxy.domain.errors import StoreUnavailable
from proxy.domain.grace import Grace
from proxy.domain.identity import TeamRecord
from proxy.store.layout import team_keys
from proxy.store.node import Node
from proxy.store.settlements import silent
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.store.wire import open_wire

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


async def test_old_rows_are_pruned(store_url: str, upstream: ScriptedUpstream) -> None:
    """Usage older than its retention goes, a deleted team's too; what is younger stays."""
    today = datetime.now(UTC).date()
    old, young = today - timedelta(days=100), today - timedelta(days=20)
    async with open_gateway(store_url, upstream.url) as gate:
        for team in ("vision", "search"):
            await gate.directory.create_team(team)
        await gate.directory.delete_team("search")
    with redis.Redis.from_url(store_url) as client:
        for team in ("vision", "search"):
            for day in (old, young):
                client.hset(f"vg:{{{team}}}:rows", f"{day}|key_1|gpt-4o|openai", "1 2 3 0 0 0 0")
        async with open_gateway(store_url, upstream.url, store={"retention": "2 months"}):
            for team in ("vision", "search"):
                rows = f"vg:{{{team}}}:rows"
                await until(lambda rows=rows: client.hlen(rows) == 1)
                assert client.hkeys(rows) == [f"{young}|key_1|gpt-4o|openai".encode()]


async def test_a_chore_that_fails_is_told_and_tried_again(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in one chore stops neither it nor the others."""
    failed: list[int] = []
    replay = housekeeping.replay

    async def broken(*words: Any) -> Any:
        if not failed:
            failed.append(1)
            raise ValueError("secret")
        return await replay(*words)

    monkeypatch.setattr(housekeeping, "replay", broken)
    monkeypatch.setattr(housekeeping, "_REPLAY_EVERY", 0.01)
    async with open_gateway(store_url, upstream.url) as gate:
        await until(lambda: bool(failed))
        (line,) = [line for line in gate.log_lines() if line["event"] == "chore_failed"]
        assert (line["chore"], line["error"]) == ("replay", "ValueError")
        assert (await gate.metrics())['visiongate_alarms_total{event="chore_failed"}'] == 1
        upstream.script(chat_stream(["one"], USAGE))
        key = await gate.key(team_limits=("1000 tokens/day",))
        async with gate.post(key) as answer:
            await answer.read()
        assert await until_shown(gate) == 15


async def test_teams_of_a_full_store(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teams are looked at, and so their dead leases freed, when the store's memory is full."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.01)
    async with open_gateway(store_url, upstream.url) as gate:
        await gate.directory.create_team("vision")
        with redis.Redis.from_url(store_url) as client:
            client.config_set("maxmemory", 1)
        enough = gate.door.ledger._marks.before("vision") + 10
        await until(lambda: gate.door.ledger._marks.before("vision") > enough)


@pytest.mark.parametrize("lost", ["all", "one"])
async def test_what_the_store_lost_is_told(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A store that has come back empty, or without a team, is found out with no request."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.01)
    async with open_gateway(store_url, upstream.url) as gate:
        await gate.key()
        await until(lambda: bool(gate.door.ledger._marks.teams))
        with redis.Redis.from_url(store_url) as client:
            client.flushall() if lost == "all" else client.delete(*team_keys("vision"))

        def told() -> list[dict[str, Any]]:
            return [x for x in gate.log_lines() if x["event"] == "store_went_backwards"]

        await until(lambda: bool(told()))
        assert [line["team"] for line in told()] == ["vision"]


async def test_many_teams_in_few_round_trips(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at 200 teams asks the store about ten times, not once or twice for each."""
    async with open_gateway(store_url, upstream.url) as gate:
        names = [f"team{number}" for number in range(200)]
        await asyncio.gather(*map(gate.directory.create_team, names))
        asked: list[None] = []
        use = Node.use

        def counted(*words: Any, **more: Any) -> Any:
            asked.append(None)
            return use(*words, **more)

        monkeypatch.setattr(Node, "use", counted)
        assert len(await gate.directory.teams()) == 200
        assert len(asked) < 10
        asked.clear()
        await house_of(gate).look()
        assert len(asked) < 15
        assert sorted(gate.door.ledger._marks.teams) == sorted(names)


async def test_workers_after_an_outage(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is back is not believed at once that there are fewer workers than before."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0)
    grace = Grace(Decimal("0.05"))
    async with (
        open_wire(store_url) as (wire, _),
        open_gateway(wire.url, upstream.url) as gate,
    ):
        house = house_of(gate, grace)
        for after, workers in ((2, 1), (1, 5), (2, 1)):
            wire.cut()
            with pytest.raises(StoreUnavailable):
                await house.beat()
            wire.mend()
            await until(lambda: not gate.door.store.away)
            grace.workers = 5
            for _ in range(after):
                await house.beat()
            assert grace.workers == workers


async def test_a_limit_that_is_gone_is_shown_as_none(gateway: Gateway) -> None:
    """A limit that a team has no more, or that of a deleted team, has no amount in the metrics."""
    await gateway.key(team_limits=("1000 tokens/day", "5 usd/month"))
    house = house_of(gateway)

    async def shown() -> list[float]:
        await house.look()
        found = await gateway.metrics()
        return [v for n, v in sorted(found.items()) if n.startswith("visiongate_limit_amount")]

    assert await shown() == [1000, 5]

    def change(team: TeamRecord) -> TeamRecord:
        return msgspec.structs.replace(team, limits=team.limits[1:])

    await gateway.directory.change_team("vision", change)
    assert await shown() == [0, 5]
    await gateway.directory.delete_team("vision")
    assert await shown() == [0, 0]


@pytest.mark.parametrize(("workers", "looked"), [(1, 100), (8, 100), (32, 25), (800, 1)])
async def test_many_workers_share_the_looks(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, workers: int, looked: int
) -> None:
    """At a team eight of all workers look each time, or all where there are fewer."""
    for number in range(100):
        await gateway.directory.create_team(f"team-{number:02}")
    draws, found = iter(range(100)), list[str]()
    house = house_of(gateway, draw=lambda: next(draws) / 100)
    heart = SimpleNamespace(beat=AsyncMock(return_value=workers))
    house._door = replace(gateway.door, directory=copy(gateway.directory), heart=heart)
    find_teams = gateway.directory.find_teams

    async def spied(names: list[str]) -> Any:
        found.extend(names)
        return await find_teams(names)

    monkeypatch.setattr(house._door.directory, "find_teams", spied)
    await house.beat()
    await house.look()
    assert len(found) == looked


def house_of(gate: Gateway, grace: Grace | None = None, **more: Any) -> housekeeping.House:
    """The chores of a gateway, for a test to do."""
    keeping = housekeeping.Keeping(
        plans=gate.door.keys._plans,
        journals=Path("none"),
        marks=gate.door.ledger._marks,
        grace=grace,
        alarm=silent,
        retention=25,
    )
    return housekeeping.House(gate.door, keeping, **more)


async def until_shown(gate: Gateway) -> float:
    """What the metrics show as used, once they do."""
    name = 'visiongate_limit_used{team="vision",unit="tokens",window="day"}'
    while not (used := (await gate.metrics()).get(name, 0.0)):
        pass
    return used
