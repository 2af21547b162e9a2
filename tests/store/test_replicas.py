"""Reservations that wait for replicas."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.layout import team_keys
from proxy.store.reach import Patience
from proxy.store.survey import server_warnings
from tests.store.ledgers import Till, open_till
from tests.store.scripts import connect
from tests.valkey import free_ports, run_valkey, wait_for


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A primary and its replica."""
    (port,) = free_ports(1)
    options = ("--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1")
    with (
        run_valkey(tmp_path_factory.mktemp("primary"), "--port", str(port), *options) as primary,
        run_valkey(tmp_path_factory.mktemp("replica"), "--replicaof", f"127.0.0.1 {port}") as copy,
        connect(primary) as client,
    ):
        wait_for(lambda: bool(client.wait(1, 100)))
        yield primary, copy


@pytest.fixture
async def till(pair: tuple[str, str]) -> AsyncIterator[Till]:
    """A ledger whose reservations wait for one replica."""
    with connect(pair[0]) as client:
        client.flushall()
    store = Store.open(pair[0], wait_replicas=1, patience=Patience(4, probing=True))
    async with open_till(pair[0], store) as opened:
        yield opened
    await store.close()


async def test_copied(till: Till, pair: tuple[str, str]) -> None:
    """A reservation that was made is on the replica, also where the script had to be loaded."""
    access = await till.access()
    await till.store.redis.script_flush()
    for _ in range(2):
        async with till.reserve(access, 1) as lease:
            with connect(pair[1]) as copy:
                assert copy.zscore(team_keys("vision")[3], lease.id) is not None


async def test_stopped(till: Till, pair: tuple[str, str]) -> None:
    """Where the replica is silent nothing is reserved, soon; settlements are made all the same."""
    access = await till.access()
    with connect(pair[1]) as copy:
        pid = copy.info("server")["process_id"]
    async with till.reserve(access, 1):
        os.kill(pid, signal.SIGSTOP)
        try:
            till.store._wait_ms = 10
            with pytest.raises(StoreUnavailable, match="Only 0 of 1 replicas"):
                async with till.reserve(access, 1):
                    pass
            assert not till.store.away
            await till.ledger.settled()
            assert len(till.scripts.contents().leases) == 1
        finally:
            os.kill(pid, signal.SIGCONT)
    await till.ledger.settled()
    assert till.scripts.contents().leases == {}


async def test_warned(till: Till) -> None:
    """More replicas wanted than there are is warned of."""
    (words,) = [w for w in await server_warnings(till.store, 2) if "wait_replicas" in w]
    assert words.startswith("the store has 1 replicas connected and store.wait_replicas is 2")
    assert not [w for w in await server_warnings(till.store, 1) if "wait_replicas" in w]
