"""Workers killed at random moments under load, and started again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.books import Row, Watch
from tests.chaos.provider import Order, Served
from tests.chaos.stand import Key, Stand, show, tell, until
from tests.chaos.traffic import Sent, ask

LEASE = 30.0
RENEWED_EVERY = LEASE / 3
#: A renewal that waits its turn on a busy machine.
LATE = 2.5
PER_TEAM = 20
#: A busy machine may let the store's answers be late.
FEW = 0.01
#: Seconds in which the settlement of a stream that is over may still be on its way.
AT_ITS_END = 0.5
NARROW = 3


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

    async def client(self, own: Key | None = None) -> None:
        key = own or await self.key()
        while not self.over:
            urls = self.stand.urls()
            if not urls:
                await asyncio.sleep(0.05)
                continue
            sent = await ask(self.dice.choice(urls), key.secret, self.order(), key=key.id)
            if own is not None:
                await asyncio.sleep(0.05 if sent.ended == "refused" else 0)
                continue
            self.sent.append(sent)
            if sent.ended != "complete":
                key = await self.key()


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
    with Watch(stand.books, "narrow") as peak:
        running = [asyncio.create_task(load.client()) for _ in range(clients)]
        running += [asyncio.create_task(load.client(narrow)) for _ in range(2 * NARROW)]
        await until(lambda: any(map(stand.books.live, load.teams)), 10)
        killed_at = await _reap(stand, dice, count, lives)
        last = max(killed_at)
        load.over = True
        await asyncio.gather(*running)
    teams = [*load.teams, "narrow"]
    if wait:
        left = max(0.0, last + LEASE + 5 - time.monotonic())
        freed = await _freed(stand, teams, left, last)
    else:
        for team in teams:
            stand.books.expire(team)
        freed = 0.0
    live = [key for team in teams for key in stand.books.live(team)]
    for team in teams:
        stand.books.agree(team)
    served = await stand.provider.records("kills:")
    charged = {id: row for team in load.teams for id, row in stand.books.charged(team).items()}
    _judge(killed_at, load.sent, served, charged, live, freed, peak.live)


async def _freed(stand: Stand, teams: list[str], seconds: float, since: float) -> float:
    """Wait at most so long for the last reservation to go; how long after `since` it was."""
    with contextlib.suppress(TimeoutError):
        await stand.free(*teams, seconds=seconds)
    return time.monotonic() - since


async def _reap(
    stand: Stand, dice: random.Random, count: int, lives: tuple[float, float]
) -> list[float]:
    """Let each worker live a random time, kill it and start another; when each one died."""
    left, times, over = count, list[float](), asyncio.Event()

    async def slot() -> None:
        nonlocal left
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), dice.uniform(*lives))
            if over.is_set() or not stand.fleet.workers:
                continue
            left -= 1
            stand.fleet.kill(dice.choice(stand.fleet.workers))
            times.append(time.monotonic())
            if not left:
                over.set()
            if left % 20 == 0:
                tell(f"  {count - left} of {count} killed")
            await asyncio.to_thread(stand.fleet.join, stand.fleet.begin())

    await asyncio.gather(*(slot() for _ in stand.fleet.workers))
    return times


def _settlement_killed(short: int, whole: list[Sent], killed_at: list[float]) -> bool:
    """Whether what is missing is one stream, whose worker was killed as it came to its end."""
    ends = [s.begun + s.seconds for s in whole if s.order.words == short]
    return any(-0.1 <= at - end <= AT_ITS_END for at in killed_at for end in ends)


def _judge(
    killed_at: list[float],
    sent: list[Sent],
    served: dict[str, Served],
    charged: dict[str, Row],
    live: list[str],
    freed: float,
    narrow: int,
) -> None:
    by_key: dict[str, list[Sent]] = {}
    for each in sent:
        by_key.setdefault(each.key, []).append(each)
    losses, wrong, unsettled = [], [], 0
    for key, streams in by_key.items():
        row = charged.get(key, Row())
        whole = [s for s in streams if s.ended == "complete"]
        broken = [s for s in streams if s.ended != "complete"]
        words = row.output - sum(s.order.words for s in whole)
        if words < 0 and _settlement_killed(-words, whole, killed_at):
            words, unsettled = 0, unsettled + 1
        requests = row.requests - len(whole)
        record = served.get(broken[0].order.tag) if broken else None
        delivered = record.words if record else 0
        # A stream that was killed before it was called may count as a request all the same.
        if not (record is not None) <= requests <= len(broken) or not 0 <= words <= delivered:
            wrong.append((streams, row, delivered))
        if record is not None:
            losses.append((delivered - words) * broken[0].order.pace)
    show(
        f"{len(killed_at)} workers killed",
        streams=dict(Counter((each.ended, each.status, each.code) for each in sent)),
        streams_killed=len(losses),
        most_lost_of_a_stream_s=max(losses, default=0.0),
        reservations_left=len(live),
        freed_after_the_last_kill_s=freed,
        killed_as_they_ended=unsettled,
        charges_off=len(wrong),
        most_at_once_where_3_are_allowed=narrow,
    )
    assert not wrong, wrong[:3]
    assert live == []
    assert unsettled <= FEW * len(sent)
    assert max(losses, default=0.0) <= RENEWED_EVERY + LATE
    assert narrow <= NARROW
    refused = [s.body for s in sent if s.ended == "refused"]
    assert len(refused) <= FEW * len(sent), refused[:3]
