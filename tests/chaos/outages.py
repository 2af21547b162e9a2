"""A store that goes away under load, and comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.books import Row, as_charged, summed
from tests.chaos.forwarder import Forwarder
from tests.chaos.provider import Order, Served
from tests.chaos.server import Server
from tests.chaos.stand import Key, Stand, percentile, show, until
from tests.chaos.traffic import Sent, ask
from tests.valkey import free_ports

#: How soon a request is refused that no budget can be checked for.
QUICK = 0.5
BURST = 40
#: How soon every worker notices that the store is back; and what a busy machine may still refuse.
NOTICED = 1.5
FEW = 0.1

Act = Callable[[], Any]


@dataclass(frozen=True)
class Fault:
    """How the store fails and recovers. With `away` no reservation can be made meanwhile. `loses`:
    whether it forgets writes that it acknowledged; None: it may.
    """

    begin: Act
    end: Act
    away: bool = True
    loses: bool | None = False


def _command(server: Server, *words: str | int) -> Act:
    def act() -> None:
        with server.client() as client:
            client.execute_command(*words)

    return act


def _promotion(replica: Server, forwarder: Forwarder) -> Act:
    def act() -> None:
        _command(replica, "REPLICAOF", "NO", "ONE")()
        forwarder.switch(replica.port)

    return act


#: The faults of one server.
FAULTS: Mapping[str, Callable[[Server], Fault]] = {
    "scripts flushed": lambda s: Fault(_command(s, "SCRIPT", "FLUSH"), lambda: None, away=False),
    "frozen": lambda s: Fault(s.freeze, s.thaw),
    "stopped, and started with its AOF": lambda s: Fault(s.stop, s.start),
    "out of memory": lambda s: Fault(
        _command(s, "CONFIG", "SET", "maxmemory", 1), _command(s, "CONFIG", "SET", "maxmemory", 0)
    ),
}


def failover(primary: Server, replica: Server, forwarder: Forwarder) -> Fault:
    """The primary dies, and the replica takes its place."""
    return Fault(primary.kill, _promotion(replica, forwarder), loses=None)


def late_failover(primary: Server, replica: Server, forwarder: Forwarder, link: Forwarder) -> Fault:
    """The same, but the replica has not heard of the primary's last second."""

    def begin() -> None:
        link.switch(*free_ports(1))
        time.sleep(1)  # of writes that are lost
        primary.kill()

    return Fault(begin, _promotion(replica, forwarder), loses=True)


@dataclass
class Load:
    """A client per key, one stream after the other; every second one's outlasts the fault."""

    stand: Stand
    keys: list[Key]
    prefix: str
    seconds: float
    sent: list[Sent] = field(default_factory=list)
    over: bool = False

    async def client(self, index: int, began: asyncio.Event) -> None:
        dice = random.Random(index)
        key = self.keys[index]
        while not self.over:
            pace = self.seconds / 40 if index % 2 else 0.01
            words = 45 if index % 2 else dice.randint(5, 30)
            order = Order(f"{self.prefix}:{index}:{dice.random()}", words, pace)
            url = dice.choice(self.stand.urls())
            sent = await ask(url, key.secret, order, key=key.id, first=began)
            self.sent.append(sent)
            if sent.ended == "refused":
                await asyncio.sleep(0.02)  # a client that tries again, but not at once

    async def begin(self) -> list[asyncio.Task[None]]:
        """The clients, once each has an answer and as many streams are over."""
        began = [asyncio.Event() for _ in self.keys]
        running = [asyncio.create_task(self.client(i, event)) for i, event in enumerate(began)]
        await asyncio.gather(*(event.wait() for event in began))
        await until(lambda: self.complete() >= len(self.keys), 20)
        return running

    def complete(self) -> int:
        return sum(each.ended == "complete" for each in self.sent)


@dataclass(frozen=True)
class Course:
    """How it went: when the store was away and back (monotonic); meanwhile, what each worker's
    readiness said and the tags that the provider had served; what was sent at once after it; and
    the seconds until nothing was reserved.
    """

    away_at: float
    back_at: float
    ready: list[int]
    served: Collection[str]
    later: list[Sent]
    freed: float


async def outage(
    stand: Stand,
    fault: Fault,
    name: str,
    *,
    seconds: float = 1.0,
    clients: int = 16,
    quick: float = QUICK,
) -> None:
    """While the store is away nothing goes upstream; what is under way ends; after it the
    rows are what the upstream reported, to the token.
    """
    team = "".join(c for c in name if c.isalpha()) + f"-{seconds:g}"
    keys = await stand.keys(team, clients, "1G tokens/day")
    load = Load(stand, keys, team, max(seconds, 0.2))
    running = await load.begin()
    load.sent += await _burst(load)
    await asyncio.to_thread(fault.begin)
    away_at = time.monotonic()
    _, ready = await asyncio.gather(asyncio.sleep(seconds), _ready(stand))
    meanwhile = await stand.provider.records(f"{team}:")
    await asyncio.to_thread(fault.end)
    back_at = time.monotonic()
    later = await _go_on(load, load.complete() + clients, 20 + seconds)
    load.over = True
    await asyncio.gather(*running)
    load.sent += later
    # What was settled and lost is reserved again, until its lease runs out.
    freed = await stand.free(team, seconds=60 if fault.loses else 15)
    course = Course(away_at, back_at, ready, meanwhile, later, freed)
    lost = _judge_course(
        load, fault, f"the store {name} for {seconds:g} s, on_failure: deny", course
    )
    served = await stand.provider.records(f"{team}:")
    judge(load.sent, served, stand.books.charged(team), quick, lost=lost)
    stand.books.agree(team)


def _judge_course(load: Load, fault: Fault, title: str, course: Course) -> bool:
    """Whether a loss was told."""
    lost = [line for line in load.stand.fleet.log() if line.get("event") == "store_went_backwards"]
    # Those that were admitted just before may still have been on their way.
    early = [s for s in load.sent if s.begun > course.away_at and s.order.tag in course.served]
    late = [s for s in load.sent if s.status == 503 and s.begun > course.back_at + NOTICED]
    late += [s for s in course.later if s.status == 503 and s not in late]
    show(
        title,
        readiness_meanwhile=course.ready,
        asked_and_served_meanwhile=len(early),
        refused_once_it_was_back=len(late),
        settled_after_s=course.freed,
        losses_told=len(lost),
    )
    assert set(course.ready) == {503 if fault.away else 200}
    assert not (fault.away and early)
    assert any(each.status == 503 for each in load.sent) == fault.away
    assert len(late) <= FEW * BURST
    assert fault.loses in (None, bool(lost))
    return bool(lost)


async def _go_on(load: Load, complete: int, seconds: float) -> list[Sent]:
    """Wait until so many streams are over and the workers are well; then many at once."""
    await until(lambda: load.complete() >= complete, seconds)
    await until(lambda: _well(load.stand), 5)
    return await _burst(load)


async def _burst(load: Load) -> list[Sent]:
    """Many at once to each worker, so that they use all of their connections to the store."""
    key = load.keys[0]
    orders = [Order(f"{load.prefix}:burst:{len(load.sent)}:{i}", 1) for i in range(BURST)]
    urls = load.stand.urls()
    asked = [ask(urls[i % len(urls)], key.secret, o, key=key.id) for i, o in enumerate(orders)]
    return await asyncio.gather(*asked)


async def _well(stand: Stand) -> bool:
    return set(await _ready(stand)) == {200}


async def _ready(stand: Stand) -> list[int]:
    """What each worker's readiness says."""
    found = []
    async with aiohttp.ClientSession() as session:
        for worker in stand.fleet.workers:
            async with session.get(f"{worker.admin}/readyz") as answer:
                found.append(answer.status)
    return found


def judge(
    sent: list[Sent],
    served: Mapping[str, Served],
    charged: Mapping[str, Row],
    quick: float,
    lost: bool,
) -> None:
    """Every stream whole, or refused within `quick` s; the upstream saw those that were charged."""
    whole = [each for each in sent if each.ended == "complete"]
    refusals = [each.seconds for each in sent if each.status == 503]
    pairs = zip(summed(charged.values()), as_charged(served.values()), strict=True)
    drift = [ours - theirs for ours, theirs in pairs]
    show(
        "  the books",
        streams=dict(Counter((each.ended, each.status) for each in sent)),
        upstream_saw=len(served),
        refused_after_p50_s=percentile(refusals, 0.5),
        refused_after_p99_s=percentile(refusals, 0.99),
        refused_after_max_s=max(refusals, default=0.0),
        drift=drift,
    )
    assert {each.ended for each in sent} <= {"complete", "refused"}
    assert {each.order.tag for each in whole} == set(served)
    assert lost or drift == [0, 0, 0]
    assert max(refusals, default=0.0) <= quick
