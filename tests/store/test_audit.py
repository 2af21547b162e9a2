"""The audit: a line for every change, whatever happens between the line and the change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.domain.errors import StoreUnavailable
from proxy.domain.limits import parse_limit
from proxy.store import audit
from proxy.store.audit import clean, read_audit
from proxy.store.client import Store
from proxy.store.directory import Directory, DirectoryError
from proxy.store.grants import give
from proxy.store.records import Records


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    yield opened
    await opened.close()


@pytest.fixture
def directory(store: Store) -> Directory:
    return Directory(store, ["a pepper of the tests"], "ada@desk")


async def told(store: Store, **which: Any) -> list[tuple[str, str, str | None]]:
    lines = await read_audit(store, **which)
    return [(line["action"], line["name"], line["key"]) for line in lines]


async def test_every_change(store: Store, directory: Directory) -> None:
    """Each kind of change has its line, in order, with what it changed only."""
    await directory.create_team("vision", plan="standard")
    await give(store, directory, "vision", parse_limit("5 usd/month"), 2**33)
    for status in ("paused", "active"):
        await directory.change_team("vision", lambda t, s=status: replace(t, status=s))
    made = await directory.create_key("vision", "ci")
    key = made.record.id
    await directory.rotate_key(made.record, 60)
    await directory.change_key("vision", key, lambda k: replace(k, name="cd"))
    await directory.delete_team("vision")
    assert await told(store) == [
        ("team.create", "vision", None),
        ("team.grant", "vision", None),
        ("team.pause", "vision", None),
        ("team.resume", "vision", None),
        ("key.create", "ci", key),
        ("key.rotate", "ci", key),
        ("key.change", "cd", key),
        ("team.delete", "vision", None),
        ("key.revoke", "cd", key),
    ]
    lines = await read_audit(store)
    assert {line["actor"] for line in lines} == {"ada@desk"}
    assert (lines[2]["before"], lines[2]["after"]) == ({"status": "active"}, {"status": "paused"})
    assert lines[1]["after"] == {"grants": ["5 usd/month until 2242-03-16T12:56:32Z"]}
    assert lines[0]["before"] == {}


async def test_nothing_changed(store: Store, directory: Directory) -> None:
    """What changes nothing, or was refused, has no line."""
    await directory.create_team("vision")
    made = await directory.create_key("vision", "ci")
    await directory.create_key("vision", "cd")
    before = await told(store)
    await directory.change_team("vision", lambda t: replace(t, status="active"))
    for refused in (
        directory.create_team("vision"),
        directory.create_key("vision", "ci"),
        directory.create_key("nobody", "ci"),
        directory.change_key("vision", made.record.id, lambda k: replace(k, name="cd")),
        directory.change_keys("vision", [(None, made.record)]),
        directory.change_keys("vision", [(made.record, replace(made.record, name="cd"))]),
    ):
        with pytest.raises(DirectoryError):
            await refused
    assert await told(store) == before


async def test_one_line_for_each_of_many(store: Store, directory: Directory) -> None:
    """Of twenty who change one team at once, each has one line, and none is of a lost try."""
    await directory.create_team("vision")

    async def label(name: str) -> None:
        await directory.change_team("vision", lambda t: replace(t, labels={**t.labels, name: "1"}))

    await asyncio.gather(*(label(f"l{n}") for n in range(20)))
    lines = await read_audit(store)
    assert len(lines) == 21
    assert len((await directory.team("vision")).labels) == 20


async def test_the_line_comes_first(
    store: Store, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process or the store is lost before the change, the line is there all the same."""
    await directory.create_team("vision")

    async def lost(*_: Any) -> bool:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(Records, "write_team", lost)
    with pytest.raises(StoreUnavailable):
        await directory.change_team("vision", lambda t: replace(t, status="paused"))
    assert (await directory.team("vision")).status == "active"
    assert (await told(store))[-1] == ("team.pause", "vision", None)


async def test_nothing_without_its_line(
    store: Store, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the line cannot be written, nothing is changed."""
    await directory.create_team("vision")

    async def lost(*_: Any) -> list[bytes]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(audit.Audit, "begin", lost)
    with pytest.raises(StoreUnavailable):
        await directory.delete_team("vision")
    assert (await directory.team("vision")).status == "active"


async def test_the_newest(
    store: Store, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest lines are told, of one team or of all, however many pages they are on."""
    monkeypatch.setattr(audit, "_PAGE", 3)
    for number in range(8):
        await directory.create_team(f"t{number}")
    assert [name for _, name, _ in await told(store)] == [f"t{n}" for n in range(8)]
    assert [name for _, name, _ in await told(store, most=2)] == ["t6", "t7"]
    assert await told(store, team="t1") == [("team.create", "t1", None)]
    assert await told(store, since=2**33) == []


async def test_it_is_bounded(
    store: Store, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many lines the oldest are dropped."""
    monkeypatch.setattr(audit, "KEPT", 100)
    await directory.create_team("vision")
    for number in range(300):
        labels = {"n": str(number)}
        await directory.change_team("vision", lambda t, new=labels: replace(t, labels=new))
    lines = await read_audit(store)
    assert 100 <= len(lines) <= 200
    assert lines[-1]["after"] == {"labels": {"n": "299"}}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ada@desk.example", "ada@desk.example"),
        ("  a\n\tb\x00c  ", "a b c"),
        ("\x1b[31mred\udcff", "31mred"),
        ("x" * 99, "x" * 64),
        ("Zoë, ops (on call)", "Zoë, ops (on call)"),
    ],
)
def test_an_actors_name(given: str, shown: str) -> None:
    """What somebody calls themselves is a line of plain characters."""
    assert clean(given) == shown
