"""A store's failover as an operator sees it: the primary dies under load, its replica is promoted.

python -m tests.chaos.drill [REACTION]
    all four ways, as a table; REACTION: seconds until somebody acts
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.books import as_charged, summed
from tests.chaos.forwarder import Forwarder, run_forwarder
from tests.chaos.outages import Fault, Load, failover, late_failover
from tests.chaos.server import Server, run_server
from tests.chaos.stand import Stand, run_stand, tell, until

TEAM = "drill"
CLIENTS = 32
REACTION = 5.0


@dataclass
class Drilled:
    """What came of it. Seconds: to the first refusal after the death, and from the promotion to the
    last one. `drift`: requests, input and output charged beyond what the provider served.
    """

    wait_replicas: int
    late: bool
    ended: Counter[tuple[str, int]]
    noticed: float
    recovered: float
    writings_lost: int
    reservations_lost: int
    drift: list[int]
    freed: float

    @property
    def cut(self) -> int:
        return sum(count for (how, _), count in self.ended.items() if how in ("broken", "nobody"))

    @property
    def row(self) -> str:
        ended = self.ended
        cells = (
            self.wait_replicas,
            "1 s behind" if self.late else "in step",
            ended["complete", 200],
            self.cut,
            ended["refused", 503],
            f"{self.noticed:.2f} s",
            f"{self.recovered:.2f} s",
            self.writings_lost,
            self.reservations_lost,
            " / ".join(f"{each:+d}" if each else "0" for each in self.drift),
        )
        return "| " + " | ".join(map(str, cells)) + " |"


COLUMNS = (
    "`wait_replicas`",
    "the replica",
    "streams whole",
    "cut",
    "503s",
    "first 503 after",
    "last 503 after the promotion",
    "writings lost, as told",
    "reservations lost, as told",
    "drift: requests / input / output",
)


@dataclass
class Nodes:
    """`link` is how the replica hears of the primary, `address` where gateways find the store."""

    primary: Server
    link: Forwarder
    replica: Server
    address: Forwarder


@contextlib.contextmanager
def run_nodes(folder: Path) -> Iterator[Nodes]:
    with (
        run_server(folder / "primary") as primary,
        run_forwarder(primary.port) as link,
        run_server(folder / "replica", "--replicaof", "127.0.0.1", str(link.port)) as replica,
        run_forwarder(primary.port) as address,
    ):
        yield Nodes(primary, link, replica, address)


def in_step(replica: Server) -> bool:
    return bool(replica.info("replication")["master_link_status"] == "up")


def failing(nodes: Nodes, *, late: bool) -> Fault:
    """The primary dies, and an operator promotes its replica: `REPLICAOF NO ONE`, and the address
    leads there.
    """
    if late:
        return late_failover(nodes.primary, nodes.replica, nodes.address, nodes.link)
    return failover(nodes.primary, nodes.replica, nodes.address)


async def drill(
    folder: Path, *, wait_replicas: int, late: bool, reaction: float = REACTION
) -> Drilled:
    """Two nodes, two gateways, CLIENTS clients."""
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(run_nodes(folder))
        await until(lambda: in_step(nodes.replica), 10)
        store = {"wait_replicas": wait_replicas}
        stand = stack.enter_context(run_stand(folder / "fleet", nodes.address.url, store=store))
        load = Load(stand, await stand.keys(TEAM, CLIENTS, "1G tokens/day"), TEAM, reaction)
        running = await load.begin()
        fault = failing(nodes, late=late)
        await asyncio.to_thread(fault.begin)
        killed_at = time.monotonic()
        await asyncio.sleep(reaction)  # until somebody acts
        await asyncio.to_thread(fault.end)
        promoted_at = time.monotonic()
        if wait_replicas:  # else there is nobody to wait for
            words = ("--replicaof", "127.0.0.1", str(nodes.replica.port))
            stack.enter_context(run_server(folder / "third", *words))
        done = load.complete() + 2 * CLIENTS
        await until(lambda: load.complete() >= done, 60)
        load.over = True
        await asyncio.gather(*running)
        freed = await stand.free(TEAM, seconds=60)
        return await _judged(stand, load, wait_replicas, late, killed_at, promoted_at, freed)


async def _judged(
    stand: Stand,
    load: Load,
    wait_replicas: int,
    late: bool,
    killed_at: float,
    promoted_at: float,
    freed: float,
) -> Drilled:
    refused = [s.begun + s.seconds for s in load.sent if s.status == 503]
    served = await stand.provider.records(f"{TEAM}:")
    pairs = zip(
        summed(stand.books.charged(TEAM).values()), as_charged(served.values()), strict=True
    )
    log = stand.fleet.log()
    stand.books.agree(TEAM)
    return Drilled(
        wait_replicas,
        late,
        Counter((each.ended, each.status) for each in load.sent),
        min((at for at in refused if at > killed_at), default=killed_at) - killed_at,
        max(refused, default=promoted_at) - promoted_at,
        max((x["writings_lost"] for x in log if x["event"] == "store_went_backwards"), default=0),
        sum(x["event"] == "reservation_lost" for x in log),
        [ours - theirs for ours, theirs in pairs],
        freed,
    )


async def main(reaction: float) -> None:
    tell("| " + " | ".join(COLUMNS) + " |")
    tell("|---" * len(COLUMNS) + "|")
    for wait_replicas in (0, 1):
        for late in (False, True):
            with tempfile.TemporaryDirectory(prefix="vg-") as folder:
                way = {"wait_replicas": wait_replicas, "late": late, "reaction": reaction}
                tell((await drill(Path(folder), **way)).row)  # type: ignore[arg-type]


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if sys.argv[1:] else REACTION))
