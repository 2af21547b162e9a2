"""A store of three primaries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from proxy import housekeeping
from proxy.domain.errors import StoreUnavailable
from proxy.store.client import PATIENT, Store
from proxy.store.directory import DirectoryError
from proxy.store.layout import CHANGED, records_key, team_keys
from proxy.store.survey import server_version, server_warnings
from proxy.store.usage import read_rows
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.store.slots import on_its_way
from tests.valkey import Primary, ValkeyCluster, run_cluster

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with run_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: ValkeyCluster) -> ValkeyCluster:
    """Three primaries, empty."""
    for primary in started.primaries:
        primary.say("FLUSHALL")
    return started


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        scripted.script(chat_stream(["one"], USAGE))
        yield scripted


@pytest.fixture
async def store(cluster: ValkeyCluster) -> AsyncIterator[Store]:
    opened = Store.open(cluster.url)
    yield opened
    await opened.close()


def teams(cluster: ValkeyCluster) -> dict[Primary, str]:
    """A team for each primary."""
    names = (f"team{number}" for number in range(100))
    return {cluster.owner(records_key(name)): name for name in names}


async def status(gate: Gateway, key: str) -> int:
    async with gate.post(key) as answer:
        await answer.read()
        return int(answer.status)


async def test_gateway(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """Teams of every primary are served, and their usage is reported."""
    async with open_gateway(cluster.url, upstream.url, admin={"token": "t"}) as gate:
        for team in teams(cluster).values():
            key = await gate.key("1M tokens/day", team=team)
            assert await status(gate, key) == 200
            assert (await gate.used(key))["tokens"][0] > 0
            today = datetime.now(UTC).date()
            (row,) = await read_rows(gate.door.store, team, today, today)
            assert row.figures[0] == 1
        headers = {"Authorization": "Bearer t"}
        async with gate.session.get(f"{gate.admin}/admin/v1/teams", headers=headers) as answer:
            listed = await answer.json()
        assert [team["name"] for team in listed] == sorted(teams(cluster).values())
        async with gate.session.get(f"{gate.admin}/readyz") as answer:
            assert answer.status == 200


async def test_revoked_elsewhere(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """A key that is revoked is forgotten by another worker within a second."""
    async with (
        open_gateway(cluster.url, upstream.url) as gate,
        open_gateway(cluster.url, upstream.url) as other,
    ):
        key = await gate.key()
        await until(lambda: listeners(cluster) == 2)
        assert await status(other, key) == 200
        (record,) = await gate.directory.keys("vision")
        await gate.directory.change_key(
            "vision", record.id, lambda r: msgspec.structs.replace(r, status="revoked")
        )
        await until(lambda: not other.door.keys._known, 1)
        assert await status(other, key) == 401


async def test_scripts_flushed(cluster: ValkeyCluster, store: Store) -> None:
    """Servers that have forgotten a script are given it again, in the same call."""
    names = list(teams(cluster).values())
    for _ in range(2):
        for primary in cluster.primaries:
            primary.say("SCRIPT", "FLUSH")
        calls = [(team_keys(name), ["", 1]) for name in names]
        assert await store.run_many("sweep", calls) == [0] * 3
        for primary in cluster.primaries:
            primary.say("SCRIPT", "FLUSH")
        for name in names:
            assert await store.run("sweep", team_keys(name), "", 1) == 0


async def test_names_are_unique(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """Two keys of a team cannot have one name, wherever the team is."""
    async with open_gateway(cluster.url, upstream.url) as gate:
        for team in teams(cluster).values():
            await gate.key(team=team)
            with pytest.raises(DirectoryError, match="ci"):
                await gate.key(team=team)


async def test_primary_dies(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """While a primary is dead its teams are told so at once, others' go on, and it comes back."""
    async with open_gateway(cluster.url, upstream.url) as gate:
        keys = {primary: await gate.key(team=team) for primary, team in teams(cluster).items()}
        for key in keys.values():
            assert await status(gate, key) == 200
        dead = cluster.owner("vg:teams")
        dead.kill()
        try:
            for _ in range(20):
                await gate.door.store.ask(None, "PING")  # any will do
            begun = time.monotonic()
            for _ in range(3):
                answers = {primary: await status(gate, key) for primary, key in keys.items()}
                assert answers == {p: 503 if p is dead else 200 for p in cluster.primaries}
            assert time.monotonic() - begun < 1
            assert not gate.door.store.away
        finally:
            dead.start()
            await asyncio.to_thread(cluster.settle)
        dead.say("PING")
        await until(lambda: all(n.away is None for n in gate.door.store.servers.nodes), 1.5)


async def test_looked_at(
    cluster: ValkeyCluster, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the primary that has the teams' names is dead, other primaries' are looked at."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.02)
    dead = cluster.owner("vg:teams")
    async with open_gateway(cluster.url, upstream.url) as gate:
        for team in teams(cluster).values():
            await gate.directory.create_team(team)
        marks = gate.door.ledger._marks
        await until(lambda: len(marks.teams) == 3)
        dead.kill()
        try:
            for team in (team for primary, team in teams(cluster).items() if primary is not dead):
                enough = marks.before(team) + 10
                await until(lambda t=team, n=enough: marks.before(t) > n)
        finally:
            dead.start()
            await asyncio.to_thread(cluster.settle)


async def test_all_die(cluster: ValkeyCluster, store: Store) -> None:
    """A cluster of which no server answers is away, until one does."""
    await store.ping()
    for primary in cluster.primaries:
        primary.kill()
    try:
        for name in teams(cluster).values():
            with pytest.raises(StoreUnavailable):
                await store.run("sweep", team_keys(name), "", 1)
        assert store.away
    finally:
        for primary in cluster.primaries:
            primary.start()
        await asyncio.to_thread(cluster.settle)
    await until(lambda: not store.away, 1.5)
    await store.ping()


async def test_listener_moves_on(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """Who hears the news from a server that dies hears it from another one."""
    async with open_gateway(cluster.url, upstream.url) as gate:
        await until(lambda: listeners(cluster) == 1)
        (dead,) = (p for p in cluster.primaries if listeners(cluster, p))
        dead.kill()
        try:
            await until(lambda: listeners(cluster) == 1, 2)
            changes = gate.door.keys._changes
            await gate.door.store.ask(None, "PUBLISH", CHANGED, "vision")
            await until(lambda: gate.door.keys._changes > changes, 1)
        finally:
            dead.start()
            await asyncio.to_thread(cluster.settle)


def listeners(cluster: ValkeyCluster, *primaries: Primary) -> int:
    """How many hear of changes from these, or from all that live."""
    asked = primaries or [primary for primary in cluster.primaries if primary.process]
    return sum(primary.say("PUBSUB", "NUMSUB", CHANGED)[1] for primary in asked)


async def test_ask(cluster: ValkeyCluster, store: Store) -> None:
    """What is asked of a slot that is on its way is asked of where it goes."""
    team = teams(cluster)[cluster.primaries[0]]
    place = records_key(team)
    assert await store.ask(place, "HGET", place, "team") is None
    with on_its_way(cluster, team) as (_, target, _):
        assert await store.ask(place, "HSET", place, "team", "there") == 1
        assert target.say("DBSIZE") == 1
    # A script's keys cannot all be there yet: it waits a moment.
    with on_its_way(cluster, team):
        waiting = asyncio.create_task(store.run("sweep", team_keys(team), "", 1))
        await asyncio.sleep(0)
    assert await waiting == 0


async def test_moved(cluster: ValkeyCluster, store: Store) -> None:
    """A slot that has moved is found, and remembered where it is."""
    team = teams(cluster)[cluster.primaries[0]]
    assert await store.run("sweep", team_keys(team), "", 1) == 0
    with on_its_way(cluster, team) as (source, target, slot):
        for primary in (target, source):
            primary.say("CLUSTER", "SETSLOT", slot, "NODE", target.say("CLUSTER", "MYID"))
        assert await store.run("replace", team_keys(team), "team", b"", b"there") == 1
        assert target.say("DBSIZE") == 1
        assert (await store.servers.find(records_key(team))).name == f"127.0.0.1:{target.port}"


async def test_plain_url(cluster: ValkeyCluster) -> None:
    """A plain URL of a cluster's server is told to be one."""
    store = Store.open(cluster.primaries[0].url, patience=PATIENT)
    keys = [team_keys(name) for name in teams(cluster).values()]
    calls = [store.run("sweep", key, "", 1) for key in keys]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    await store.close()
    failed = [answer for answer in answers if answer != 0]
    assert len(failed) == 2
    assert "begin store.url with redis+cluster://" in str(getattr(failed[0], "__cause__", None))


async def test_user(cluster: ValkeyCluster) -> None:
    """User and password hold for every server, and one that can be named is enough."""
    for primary in cluster.primaries:
        primary.say("ACL", "SETUSER", "gate", "on", ">p@ss", "~vg:*", "+@all")
    port = cluster.primaries[0].port
    store = Store.open(f"redis+cluster://gate:p%40ss@localhost:1,localhost:{port}/0")
    for name in teams(cluster).values():
        assert await store.run("sweep", team_keys(name), "", 1) == 0
    assert {await node.client.acl_whoami() for node in store.servers.nodes} == {"gate"}
    await store.close()


async def test_wait_replicas(cluster: ValkeyCluster, upstream: ScriptedUpstream) -> None:
    """A cluster's reservation, too, waits for replicas, and says how many there were."""
    async with open_gateway(cluster.url, upstream.url) as gate:
        key = await gate.key("100 tokens/day")
        gate.door.store._wait_replicas = 1
        async with gate.post(key) as answer:
            assert answer.status == 503
            assert "Only 0 of 1 replicas" in (await answer.json())["error"]["message"]
        assert await gate.used(key) == {"tokens": (0, 0)}


async def test_survey(cluster: ValkeyCluster, store: Store) -> None:
    """Each server is warned of by its address, and the version is told once."""
    told = await server_warnings(store, 1)
    for primary in cluster.primaries:
        about = [words for words in told if f"node 127.0.0.1:{primary.port} has" in words]
        assert [word in words for words, word in zip(about, ("no append", "0 rep"), strict=True)]
    assert len(told) == 6
    assert (await server_version(store)).count("Valkey") == 1
