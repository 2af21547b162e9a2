"""The ledger's promises under faults, at full size: `make chaos`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.layout import records_key
from tests.chaos.admission import IMAGES, admission
from tests.chaos.allowed import ALLOW, allowed
from tests.chaos.cuts import cuts
from tests.chaos.drill import drill, failing, in_step, run_nodes
from tests.chaos.kills import kills
from tests.chaos.lost_target import lost_target
from tests.chaos.outages import FAULTS, outage
from tests.chaos.scrape import scrape
from tests.chaos.server import Server, run_server
from tests.chaos.stand import Stand, run_stand, tell, until
from tests.chaos.turnover import run_pair, turnover
from tests.valkey import run_cluster

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1500)]

#: How long each fault lasts, in seconds.
LASTING = {
    "scripts flushed": (1.0,),
    "frozen": (10.0, 60.0),
    "stopped, and started with its AOF": (5.0,),
    "out of memory": (5.0,),
}
#: Seconds until a replica that is new to a primary counts: it waits 5 of them for others like it
#: (repl-diskless-sync-delay).
JOINING = 12
each_fault = pytest.mark.parametrize(
    ("fault", "seconds"), [(fault, seconds) for fault in FAULTS for seconds in LASTING[fault]]
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with run_server(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def stand(server: Server, tmp_path: Path) -> Iterator[Stand]:
    with run_stand(tmp_path / "fleet", server.url) as stand:
        yield stand


@pytest.mark.parametrize("kind", IMAGES)
async def test_room_for_twenty(stand: Stand, kind: str) -> None:
    """Of 200 streams at once on two workers the 20 are admitted that there is room for."""
    await admission(stand, kind)


async def test_room_for_twenty_on_a_cluster(tmp_path: Path) -> None:
    """The same where the store is three primaries."""
    with run_cluster(tmp_path) as cluster:

        def where(team: str) -> str:
            return cluster.owner(records_key(team)).url

        with run_stand(tmp_path / "fleet", cluster.url, where=where) as stand:
            for kind in IMAGES:
                await admission(stand, kind)


async def test_cut_clients(stand: Stand) -> None:
    """500 clients that leave are charged what came, and leave nothing open."""
    await cuts(stand, count=500)


@each_fault
async def test_store_away(stand: Stand, server: Server, fault: str, seconds: float) -> None:
    """While the store is away nothing goes upstream, and after it the books are exact."""
    await outage(stand, FAULTS[fault](server), fault, seconds=seconds, clients=32)


@each_fault
async def test_store_away_and_allowed(
    server: Server, tmp_path: Path, fault: str, seconds: float
) -> None:
    """Where the store's absence is forgiven, no more is overspent than was announced."""
    with run_stand(tmp_path / "fleet", server.url, workers=0, **ALLOW) as stand:
        await allowed(stand, FAULTS[fault](server), fault, seconds=seconds)


@pytest.mark.parametrize("late", [False, True])
async def test_failover(tmp_path: Path, late: bool) -> None:
    """A replica that takes the dead primary's place has the same books, or its loss is told."""
    with run_nodes(tmp_path) as nodes, run_stand(tmp_path / "fleet", nodes.address.url) as stand:
        await until(lambda: in_step(nodes.replica), 10)
        name = f"dead, and its {'late ' * late}replica promoted"
        await outage(stand, failing(nodes, late=late), name, seconds=3, clients=32)


async def test_killed_workers(server: Server, tmp_path: Path) -> None:
    """200 workers killed under load leave nothing reserved, and no more uncharged than a
    renewal's tokens of each stream.
    """
    with run_stand(tmp_path / "fleet", server.url, workers=6) as stand:
        await kills(stand, count=200)


@pytest.mark.parametrize("workers", [1, 2])
async def test_lost_target(server: Server, tmp_path: Path, workers: int) -> None:
    """One of two targets dies under 100 streams/s and comes back, and no client hears of it before
    its first byte.
    """
    await lost_target(server.url, tmp_path / "two", seconds=20.0, rate=100, workers=workers)


async def test_reloads_and_kills(server: Server, tmp_path: Path) -> None:
    """Ten reloads and ten killed workers under 200 streams cut none but those of the killed, and a
    stop leaves nothing open.
    """
    with run_pair(tmp_path / "fleet", server.url) as stand:
        await turnover(stand, tmp_path / "fleet")


async def test_scrapes_of_many_keys(server: Server, tmp_path: Path) -> None:
    """The metrics of 500 teams with 5,000 keys on two workers are told within a second, and streams
    go on meanwhile.
    """
    with run_pair(tmp_path / "fleet", server.url, metrics={"max_keys": 6000}) as stand:
        await scrape(stand)


@pytest.mark.parametrize("wait_replicas", [0, 1])
@pytest.mark.parametrize("late", [False, True])
async def test_the_drill(tmp_path: Path, wait_replicas: int, late: bool) -> None:
    """Where the primary dies and somebody promotes its replica 5 s later, streams under way end
    whole, refusals begin and end at once, and what is lost is told.
    """
    found = await drill(tmp_path, wait_replicas=wait_replicas, late=late)
    tell(found.row)
    assert {how for how, _ in found.ended} == {"complete", "refused"}
    assert found.noticed < 1
    assert found.recovered < (JOINING if wait_replicas else 2)
    assert found.writings_lost or found.drift == [0, 0, 0]
    assert found.writings_lost or not late
    assert not wait_replicas or not found.drift[0]
