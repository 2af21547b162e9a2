"""Targets that are switched off, in a real store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.manage.targets import TargetDesk
from proxy.store.audit import Audit, read_audit
from proxy.store.changes import Conflict
from proxy.store.client import Store
from proxy.store.layout import TARGETS
from proxy.store.switches import Switch, SwitchBoard, Switches, covered, read_switches
from tests.config.samples import SMALL, read
from tests.gateway import until

PAIRS = (("gpt-4o", "openai"), ("gpt-4o", "azure"), ("gpt-4.1", "openai"))


def switch(model: str = "gpt-4o", *, ends: int | None = None, reason: str = "") -> Switch:
    return Switch("openai", model, int(time.time()), ends, "me", reason)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def board(store: Store) -> SwitchBoard:
    return SwitchBoard(store, Audit(store, "me"))


def test_what_is_covered() -> None:
    """A switch is about one target, or with "*" about all of a provider, until its end."""
    one = [switch(ends=100)]
    assert covered(one, PAIRS, 99.9) == {("gpt-4o", "openai")}
    assert covered(one, PAIRS, 100) == frozenset()
    assert covered([switch("*")], PAIRS, 1e12) == {("gpt-4o", "openai"), ("gpt-4.1", "openai")}


async def test_off_and_on(store: Store, board: SwitchBoard) -> None:
    """What is off is in the store until it is on again, and then nothing is."""
    first = switch(reason="maintenance")
    await board.turn_off(first)
    await board.turn_off(switch("*"))
    assert [s.model for s in await board.off()] == ["*", "gpt-4o"]
    assert (await board.off())[1] == first
    assert await board.turn_on("openai", "gpt-4o") == [first]
    assert [s.model for s in await board.turn_on("openai", "*")] == ["*"]
    assert await store.ask(TARGETS, "EXISTS", TARGETS) == 0


async def test_lines(store: Store, board: SwitchBoard) -> None:
    """The audit has a line for each change, none for what changes nothing."""
    await board.turn_off(switch(reason="slow"))
    await board.turn_off(switch(ends=4_102_444_800))
    await board.turn_on("openai", "gpt-4o")
    await board.turn_on("openai", "gpt-4o")
    lines = await read_audit(store)
    assert {(line["actor"], line["team"], line["key"], line["name"]) for line in lines} == {
        ("me", "", None, "gpt-4o at openai")
    }
    later = {"status": "disabled", "until": "2100-01-01T00:00:00Z"}
    assert [(line["action"], line["before"], line["after"]) for line in lines] == [
        ("target.disable", {"status": "active"}, {"status": "disabled", "reason": "slow"}),
        ("target.disable", {"status": "disabled", "reason": "slow"}, later),
        ("target.enable", later, {"status": "active"}),
    ]


async def test_at_once(store: Store, board: SwitchBoard) -> None:
    """Of many who switch at the same time, each is heeded, and has one line."""
    models = [f"m{n}" for n in range(8)]
    await asyncio.gather(*(board.turn_off(switch(model)) for model in models))
    assert [s.model for s in await board.off()] == models
    assert sorted(line["name"] for line in await read_audit(store)) == [
        f"{model} at openai" for model in models
    ]


async def test_enabled_by_two(board: SwitchBoard) -> None:
    """Of two who enable a target at the same time, one is told that it has changed something."""
    desk = TargetDesk(board, read(SMALL))
    await board.turn_off(switch())
    done = await asyncio.gather(desk.enable("openai", None), desk.enable("openai", "gpt-4o"))
    assert sorted(each.changed for each in done) == [False, True]


async def test_somebody_is_always_faster(
    store: Store, board: SwitchBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who never gets through is told so, and leaves no line."""
    count, ask = 0, store.ask

    async def overtaken(key: str | None, *words: str) -> object:
        nonlocal count
        found = await ask(key, *words)
        if words[0] == "HGETALL":
            count += 1
            await ask(TARGETS, "HSET", TARGETS, f"m{count} openai", "{}")
        return found

    monkeypatch.setattr(store, "ask", overtaken)
    with pytest.raises(Conflict, match="try again"):
        await board.turn_off(switch())
    assert await read_audit(store) == []


async def test_what_is_over_goes(store: Store, board: SwitchBoard) -> None:
    """The next change takes away what is over, without a line, and what cannot be read."""
    await board.turn_off(switch("old", ends=int(time.time()) - 1))
    await store.ask(TARGETS, "HSET", TARGETS, "broken openai", "{")
    assert await board.off() == []
    await board.turn_off(switch("new"))
    assert [s.model for s in await read_switches(store)] == ["new"]
    assert await store.ask(TARGETS, "HLEN", TARGETS) == 1
    assert len(await read_audit(store)) == 2


@contextlib.asynccontextmanager
async def watching(
    store: Store,
) -> AsyncIterator[tuple[Switches, list[frozenset[tuple[str, str]]]]]:
    told: list[frozenset[tuple[str, str]]] = []
    switches = Switches(store, PAIRS, told.append)
    try:
        yield switches, told
    finally:
        await switches.stop()


async def test_told_of_changes_only(store: Store, board: SwitchBoard) -> None:
    """A worker is told what is off when that has changed, and not at each look."""
    async with watching(store) as (switches, told):
        await switches.look()
        assert told == []
        await board.turn_off(switch("*"))
        await switches.look()
        await board.turn_off(switch("gpt-4o"))
        await switches.look()
        assert told == [{("gpt-4o", "openai"), ("gpt-4.1", "openai")}]


async def test_an_end_without_the_store(
    store: Store, board: SwitchBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store is away what was known stands, and ends when it should."""
    await board.turn_off(switch("gpt-4.1"))
    await board.turn_off(switch(ends=int(time.time()) + 2))
    async with watching(store) as (switches, told):
        await switches.look()
        assert len(told[-1]) == 2

        async def away(*_: object) -> object:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(store, "ask", away)
        with pytest.raises(StoreUnavailable):
            await switches.look()
        switches.heard()
        assert len(told) == 1
        await until(lambda: len(told) > 1)
        assert told[1:] == [{("gpt-4.1", "openai")}]


async def test_much_news(store: Store, board: SwitchBoard) -> None:
    """However much news comes at once, one look follows it, after the one under way."""
    await board.turn_off(switch())
    async with watching(store) as (switches, told):
        for _ in range(100):
            switches.heard()
        assert len(switches._soon) == 2
        await until(lambda: not switches._soon)
        assert told == [{("gpt-4o", "openai")}]
