"""One gateway of two workers, reloaded and with workers killed under load, and stopped at last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.kernel import tree
from tests.chaos.kills import LEASE
from tests.chaos.provider import Order
from tests.chaos.stand import Key, Stand, run_stand, show, until
from tests.chaos.traffic import Sent, ask
from tests.fleet import Worker
from tests.gateway import merged

WORKERS = 2
TEAM = "turnover"
_ESTABLISHED = "01"  # https://docs.kernel.org/networking/proc_net_tcp.html


@contextlib.contextmanager
def run_pair(folder: Path, store_url: str, **changes: Any) -> Iterator[Stand]:
    """A stand of one gateway with two workers."""
    server = {"workers": WORKERS, "drain": "60s"}
    with run_stand(folder, store_url, workers=1, server=server, **changes) as stand:
        yield stand


@dataclass
class Turnover:
    """`victims`: the clients' ports that killed workers served; `pids`: who serves now."""

    stand: Stand
    gateway: Worker
    config: Path
    key: Key
    dice: random.Random
    longest: float
    sent: list[Sent] = field(default_factory=list)
    victims: set[int] = field(default_factory=set)
    killed: int = 0
    over: bool = False

    async def client(self, index: int) -> None:
        while not self.over:
            words = self.dice.randint(5, int(self.longest / 0.05))
            order = Order(f"{TEAM}:{index}:{self.dice.random()}", words, 0.05)
            self.sent.append(await ask(self.gateway.url, self.key.secret, order))

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.gateway.log() if line.get("event") in names]

    async def reload(self, **changes: Any) -> None:
        """As an operator does; again where a new worker is killed before it serves."""
        given = merged(yaml.safe_load(self.config.read_text()), changes)
        self.config.write_text(yaml.safe_dump(given))
        while True:
            before = len(self.events("reloaded", "reload_refused"))
            self.gateway.process.send_signal(signal.SIGHUP)
            await until(lambda b=before: len(self.events("reloaded", "reload_refused")) > b, 30)
            if self.events("reloaded", "reload_refused")[-1]["event"] == "reloaded":
                return

    async def kill(self) -> None:
        """Any worker that has streams: of this configuration, of the one before or of the next."""
        await asyncio.sleep(self.dice.uniform(0, 1))
        port = int(self.gateway.url.rpartition(":")[2])
        pid = await self._stopped(port)
        self.victims |= _served(pid, port)
        os.kill(pid, signal.SIGKILL)
        self.killed += 1

    async def _stopped(self, port: int) -> int:
        """One that is held fast: what it serves is to be known before it dies."""
        while True:
            pid = self.dice.choice(await self._serving(port))
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGSTOP)
                return pid

    async def _serving(self, port: int) -> list[int]:
        found: list[int] = []
        while not found:
            await asyncio.sleep(0.02)  # between two looks
            found = [pid for pid in tree(self.gateway.process.pid)[1:] if _served(pid, port)]
        return found


def _connections(pid: int) -> set[str]:
    """The inodes of its sockets; none of a process that is gone."""
    found = set[str]()
    with contextlib.suppress(OSError):
        for name in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(name)
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _served(pid: int, port: int) -> set[int]:
    """The ports of its clients, who are on this machine."""
    inodes, found = _connections(pid), set[int]()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if state == _ESTABLISHED and inode in inodes and int(local[-4:], 16) == port:
            found.add(int(remote[-4:], 16))
    return found


async def turnover(
    stand: Stand,
    folder: Path,
    *,
    streams: int = 200,
    times: int = 10,
    longest: float = 10.0,
    wait: bool = True,
) -> None:
    """Reloads and kills, `times` each: only streams of a killed worker are cut. After SIGTERM each
    stream has ended whole or with an error event, and nothing is reserved. Without `wait` the
    leases of the killed ones are made to run out.
    """
    (key,) = await stand.keys(TEAM, 1, "10G tokens/day")
    (gateway,) = stand.fleet.workers
    run = Turnover(stand, gateway, folder / "visiongate.yaml", key, random.Random(1), longest)
    running = [asyncio.create_task(run.client(index)) for index in range(streams)]
    await until(lambda: len(stand.books.live(TEAM)) >= streams * 0.8, 20)
    for number in range(times):
        await asyncio.gather(run.reload(metrics={"max_keys": 2000 + number}), run.kill())
    await run.reload(server={"drain": "2s"})
    run.over = True
    await asyncio.gather(*running)
    if wait:
        await stand.free(TEAM, seconds=LEASE + 5)
    else:
        stand.books.expire(TEAM)
    last = await _stop(run, streams)
    _judge(run, last)


async def _stop(run: Turnover, streams: int) -> list[Sent]:
    """SIGTERM with so many streams under way; half of them would take longer than they may."""
    begun = [asyncio.Event() for _ in range(streams)]
    orders = [Order(f"{TEAM}:last:{i}", 20 if i % 2 else 200, 0.05) for i in range(streams)]
    running = [
        asyncio.create_task(ask(run.gateway.url, run.key.secret, order, first=event))
        for order, event in zip(orders, begun, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in begun))
    run.gateway.ask_to_stop()
    last = await asyncio.gather(*running)
    assert await asyncio.to_thread(run.gateway.process.wait, 15) == 0
    return last


def _judge(run: Turnover, last: list[Sent]) -> None:
    cut = [each for each in run.sent if each.ended != "complete"]
    foreign = [each for each in cut if each.port not in run.victims]
    told = [each for each in last if each.ended == "broken" and b'"server_error"' in each.last]
    live = run.stand.books.live(TEAM)
    show(
        "reloads and kills under load",
        streams=dict(Counter(each.ended for each in run.sent)),
        reloads=len(run.events("reloaded")),
        reloads_refused=len(run.events("reload_refused")),
        killed=run.killed,
        of_a_killed_worker=len(cut) - len(foreign),
        of_another=len(foreign),
    )
    show(
        "  and SIGTERM",
        streams=dict(Counter(each.ended for each in last)),
        with_an_error_event=len(told),
        reservations_left=len(live),
    )
    run.stand.books.agree(TEAM)
    assert not foreign, foreign[:3]
    assert cut, "no worker that was killed had a stream"
    assert {each.ended for each in last} == {"complete", "broken"}
    assert len(told) == sum(each.ended == "broken" for each in last)
    assert live == []
