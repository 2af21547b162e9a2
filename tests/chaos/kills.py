"""Workers killed at random moments under load, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.chaos.books import Books, Lapsed, Row, watched
from tests.chaos.provider import Order, Served
from tests.chaos.stand import Key, Stand, show, tell, until
from tests.chaos.traffic import Sent, ask

LEASE = 30.0
RENEWED_EVERY = LEASE / 3
#: A renewal that waits its turn on a busy machine.
LATE = 1.0
PER_TEAM = 20
#: A busy machine may let the store's answers be late.
FEW = 0.01
#: For each kill, so many streams may have ended without being settled: that takes milliseconds,
#: more on a busy machine.
ENDED, FEW_ENDED = 0.05, 3
#: Seconds between such a stream's end, as its client saw it, and the death of its worker.
AT_ITS_END = 1.0
NARROW = 3


class Death(NamedTuple):
    """Of the worker at `url`; `at` is on the monotonic clock."""

    url: str
    at: float


@dataclass
class Load:
    """Clients that send one stream after the other; a key whose stream was killed is retired."""

    stand: Stand
    dice: random.Random
    longest: float
    sent: list[Sent] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    over: bool = False
    _keys: list[Key] = field(default_factory=list)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def key(self) -> Key:
        async with self._making:
            if not self._keys:
                team = f"kills-{len(self.teams)}"
                self.teams.append(team)
                self._keys += await self.stand.keys(team, PER_TEAM)
            return self._keys.pop()

    def order(self) -> Order:
        pace = self.dice.uniform(0.03, 0.1)
        seconds = self.dice.choice((0.5, 2.0, self.longest)) * self.dice.uniform(0.5, 1)
        return Order(f"kills:{len(self.sent)}:{self.dice.random()}", int(seconds / pace) + 2, pace)

    async def client(self, index: int, own: Key | None = None) -> None:
        """To one worker after the other."""
        key = own or await self.key()
        for turn in itertools.count(index):
            if self.over:
                return
            urls = self.stand.urls()
            if not urls:
                await asyncio.sleep(0.05)
                continue
            sent = await ask(urls[turn % len(urls)], key.secret, self.order(), key=key.id)
            if own is not None:
                await asyncio.sleep(0.05 if sent.ended == "refused" else 0)
                continue
            self.sent.append(sent)
            if sent.ended != "complete":
                key = await self.key()

    def streams(self) -> dict[str, list[Sent]]:
        """What each key sent."""
        found = defaultdict[str, list[Sent]](list)
        for each in self.sent:
            found[each.key].append(each)
        return found


async def kills(
    stand: Stand,
    *,
    count: int = 200,
    clients: int = 48,
    lives: tuple[float, float] = (1.0, 25.0),
    longest: float = 25.0,
    seed: int = 1,
    wait: bool = True,
) -> None:
    """After `count` SIGKILLs nothing is left reserved, and no more than a renewal's tokens of
    each stream are lost. Without `wait` the leases are made to run out.
    """
    dice = random.Random(seed)
    load = Load(stand, dice, longest)
    (narrow,) = await stand.keys("narrow", 1, f"{NARROW} concurrent")
    with watched(stand.books, "narrow") as peak:
        running = [asyncio.create_task(load.client(index)) for index in range(clients)]
        running += [asyncio.create_task(load.client(index, narrow)) for index in range(2 * NARROW)]
        await until(lambda: any(map(stand.books.live, load.teams)), 10)
        deaths = await _reap(stand, dice, count, lives)
        load.over = True
        await asyncio.gather(*running)
    teams = [*load.teams, "narrow"]
    freed = await _freed(stand, teams, deaths[-1].at, wait)
    live = [key for team in teams for key in stand.books.live(team)]
    for team in teams:
        stand.books.agree(team)
    judge = Judge(await stand.provider.records("kills:"), deaths)
    judge.keys(load, stand.books)
    judge.conclude(load.sent, live, freed)
    show("  a key that may have 3 streams at once", most_at_once=peak.live)
    assert peak.live <= NARROW


async def _freed(stand: Stand, teams: list[str], since: float, wait: bool) -> float:
    """Wait at most a lease and 5 s for the last reservation to go, or free it; how long after
    `since` it was.
    """
    if wait:
        with contextlib.suppress(TimeoutError):
            await stand.free(*teams, seconds=max(0.0, since + LEASE + 5 - time.monotonic()))
    else:
        for team in teams:
            stand.books.expire(team)
    return time.monotonic() - since


async def _reap(
    stand: Stand, dice: random.Random, count: int, lives: tuple[float, float]
) -> list[Death]:
    """Let each worker live a random time, kill it and start another; the deaths, in order."""
    left, deaths, over = count, list[Death](), asyncio.Event()

    async def slot() -> None:
        nonlocal left
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), dice.uniform(*lives))
            if over.is_set() or not stand.fleet.workers:
                continue
            left -= 1
            worker = dice.choice(stand.fleet.workers)
            deaths.append(Death(worker.url, time.monotonic()))
            stand.fleet.kill(worker)
            if not left:
                over.set()
            if left % 20 == 0:
                tell(f"  {count - left} of {count} killed")
            await asyncio.to_thread(stand.fleet.join, stand.fleet.begin())

    await asyncio.gather(*(slot() for _ in stand.fleet.workers))
    return deaths


@dataclass
class Judge:
    """`losses`: seconds of each killed stream that are not charged. `ended`: how many of the killed
    ones had come to their end. `wrong`: what no death explains.
    """

    served: dict[str, Served]
    deaths: list[Death]
    losses: list[float] = field(default_factory=list)
    ended: int = 0
    wrong: list[object] = field(default_factory=list)

    def keys(self, load: Load, books: Books) -> None:
        charged = {id: row for team in load.teams for id, row in books.charged(team).items()}
        lapsed = defaultdict[str, list[Lapsed]](list)
        for lost in (lost for team in load.teams for lost in books.lapsed(team)):
            lapsed[lost.key].append(lost)
        for key, streams in load.streams().items():
            self._key(streams, charged.get(key, Row()), lapsed[key])

    def _key(self, streams: list[Sent], row: Row, lapsed: list[Lapsed]) -> None:
        """Each stream of a key is charged what the provider wrote of it, but for those whose lease
        ran out: they are charged what was told of them in time.
        """
        settled = list(streams)
        for lost in lapsed:
            alike = [each for each in settled if each.order.words == lost.held]
            if not alike:
                self.wrong.append((streams, lost))
                continue
            killed = min(alike, key=self._unlikely)
            settled.remove(killed)
            self.losses.append((self._written(killed) - lost.told) * killed.order.pace)
            if killed.ended == "complete":
                self.ended += 1
                self.wrong += [] if self._died_at_its_end(killed) else [(killed, lost)]
        requests = len(lapsed) + sum(each.order.tag in self.served for each in settled)
        output = sum(lost.told for lost in lapsed) + sum(map(self._written, settled))
        if (row.requests, row.output) != (requests, output):
            self.wrong.append((streams, row, lapsed))

    def _written(self, sent: Sent) -> int:
        """The words that the provider wrote of a stream."""
        record = self.served.get(sent.order.tag)
        return record.words if record else 0

    def _unlikely(self, sent: Sent) -> tuple[bool, bool]:
        """The less, the likelier it is that this is the stream that was killed."""
        return sent.ended == "complete", not self._died_at_its_end(sent)

    def _died_at_its_end(self, sent: Sent) -> bool:
        end = sent.begun + sent.seconds
        return any(url == sent.url and abs(at - end) <= AT_ITS_END for url, at in self.deaths)

    def conclude(self, sent: list[Sent], live: list[str], freed: float) -> None:
        refused = [each.body for each in sent if each.ended == "refused"]
        show(
            f"{len(self.deaths)} workers killed",
            streams=dict(Counter((each.ended, each.status, each.code) for each in sent)),
            streams_killed=len(self.losses),
            most_lost_of_a_stream_s=max(self.losses, default=0.0),
            killed_after_end_before_charge=self.ended,
            reservations_left=len(live),
            freed_after_the_last_kill_s=freed,
            charges_off=len(self.wrong),
        )
        assert not self.wrong, self.wrong[:3]
        assert live == []
        assert self.losses, "no worker had a stream"
        assert all(0 <= loss <= RENEWED_EVERY + LATE for loss in self.losses)
        assert self.ended <= max(FEW_ENDED, ENDED * len(self.deaths))
        assert len(refused) <= FEW * len(sent), refused[:3]
