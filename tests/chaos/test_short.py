"""The ledger's promises under faults, at a size that every run affords."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.admission import IMAGES, admission
from tests.chaos.cuts import cuts
from tests.chaos.kills import kills
from tests.chaos.leaving import leaving
from tests.chaos.lost_target import lost_target
from tests.chaos.outages import FAULTS, outage
from tests.chaos.server import Server, run_server
from tests.chaos.stand import Stand, run_stand
from tests.chaos.turnover import run_pair, turnover


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def stand(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with run_stand(tmp_path_factory.mktemp("fleet"), server.url) as stand:
        yield stand


@pytest.mark.parametrize("kind", IMAGES)
async def test_room_for_twenty(stand: Stand, kind: str) -> None:
    """Of many streams at once on two workers, as many are admitted as there is room for."""
    await admission(stand, kind)


async def test_cut_clients(stand: Stand) -> None:
    """Clients that leave are charged what came, and leave neither calls nor reservations."""
    await cuts(stand, count=40, longest=30, slack=1.0, few=0.1)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [("scripts flushed", 0.2), ("frozen", 1.0), ("stopped, and started with its AOF", 0.2)],
)
async def test_store_away(stand: Stand, server: Server, fault: str, seconds: float) -> None:
    """While the store is away nothing goes upstream, and after it the books are exact."""
    await outage(stand, FAULTS[fault](server), fault, seconds=seconds, clients=4, quick=2.0)


async def test_killed_worker(stand: Stand) -> None:
    """A killed worker's streams are charged for what was counted, and free the rest."""
    await kills(stand, count=1, clients=6, lives=(0.2, 0.3), longest=1.0, wait=False)


async def test_lost_target(server: Server, tmp_path: Path) -> None:
    """One of two targets dies under load and comes back, and no client hears of it before its
    first byte.
    """
    await lost_target(server.url, tmp_path / "two", seconds=1.5, rate=60)


async def test_reloads_and_kills(server: Server, tmp_path: Path) -> None:
    """Reloads and killed workers under load cut no streams but those of the killed, and a stop
    leaves nothing open.
    """
    with run_pair(tmp_path / "fleet", server.url) as stand:
        await turnover(stand, tmp_path / "fleet", streams=12, times=2, longest=2.0, wait=False)


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
async def test_clients_that_leave(server: Server, tmp_path: Path, transport: str) -> None:
    """However a client of the official SDK leaves, so does the gateway, at once."""
    provider = {"openai": {"transport": transport}}
    with run_stand(tmp_path / "fleet", server.url, 1, providers=provider) as stand:
        await leaving(stand, transport, count=2, within=1.0)
