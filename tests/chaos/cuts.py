"""Clients that leave at random moments."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

from tests.chaos.books import Books, Row
from tests.chaos.provider import Order, Served
from tests.chaos.stand import Key, Stand, percentile, show
from tests.chaos.traffic import Cut, Sent, ask

#: Words that may be on their way when a connection is closed.
ON_THE_WAY = 2
SHARE = 0.05
#: Seconds without a word, in which a client's leaving is not noticed by writing to it.
SILENCE = 20.0
PER_TEAM = 20


class Departures:
    """Notes from a thread of its own when the last reservation of each key is gone."""

    def __init__(self, books: Books, teams: list[str]) -> None:
        self.gone_at: dict[str, float] = {}
        self._books, self._teams = books, teams
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Departures:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        before: set[str] = set()
        while not self._over.wait(0.03):
            now = {key for team in self._teams for key in self._books.live(team)}
            self.gone_at |= dict.fromkeys(before - now, time.monotonic())
            before = now


def plan(dice: random.Random, tag: str, longest: int = 100) -> tuple[Order, Cut]:
    """A stream of so many words at the most, and where its client leaves it."""
    words, pace = dice.randint(longest // 5, longest), dice.uniform(0.005, 0.03)
    how: Any = dice.choice(("close", "reset", "half-close"))
    after = dice.uniform(0, 0.2)
    match dice.choice(("head", "before", "silent", "words", "words", "words", "last")):
        case "head":
            return Order(tag, words), Cut("head", how, after=after)
        case "before":
            return Order(tag, words, wait=SILENCE), Cut("before", how, after=after)
        case "silent":  # after its first word
            return Order(tag, words, hold=True), Cut("words", how, 1, after)
        case "last":  # its end is on the way
            return Order(tag, words, pace), Cut("words", how, words, dice.uniform(0, pace))
    return Order(tag, words, pace), Cut("words", how, dice.randint(2, words - 1))


async def cuts(
    stand: Stand,
    *,
    count: int = 500,
    at_once: int = 50,
    longest: int = 100,
    seed: int = 1,
    slack: float = 0.1,
) -> None:
    """Each upstream is left within 100 ms (at the 99th percentile; `slack` s), each charge
    within 5% of what was delivered, each reservation gone within 1 s.
    """
    dice = random.Random(seed)
    sizes = [min(PER_TEAM, count - first) for first in range(0, count, PER_TEAM)]
    keys = [k for i, size in enumerate(sizes) for k in await stand.keys(f"cuts-{seed}-{i}", size)]
    teams = sorted({key.team for key in keys})
    room = asyncio.Semaphore(at_once)
    urls = stand.urls()

    async def one(index: int, key: Key, order: Order, cut: Cut) -> Sent:
        async with room:
            return await ask(urls[index % len(urls)], key.secret, order, key=key.id, cut=cut)

    plans = [plan(dice, f"cuts-{seed}:{index}", longest) for index in range(count)]
    with Departures(stand.books, teams) as departures:
        tasks = [one(i, key, *plans[i]) for i, key in enumerate(keys)]
        sent = await asyncio.gather(*tasks)
        await stand.free(*teams)
        await asyncio.sleep(0.1)  # for the departures' last look
    served = await stand.provider.records(f"cuts-{seed}:")
    charged = {id: row for team in teams for id, row in stand.books.charged(team).items()}
    for team in teams:
        stand.books.agree(team)
    _judge(sent, served, charged, departures.gone_at, [cut for _, cut in plans], slack)


def _judge(
    sent: list[Sent],
    served: dict[str, Served],
    charged: dict[str, Row],
    gone_at: dict[str, float],
    planned: list[Cut],
    slack: float,
) -> None:
    assert {each.ended for each in sent} == {"cut"}
    left, gone, wrong = [], [], []
    total = Counter[str]()
    for each, cut in zip(sent, planned, strict=True):
        record, row = served.get(each.order.tag), charged.get(each.key, Row())
        words = record.words if record else 0
        total += Counter(delivered=words, charged=row.output)
        # On a busy machine the provider sends on until the gateway has seen that nobody reads.
        least = each.words - max(ON_THE_WAY, SHARE * each.words)
        if not least <= row.output <= words + max(ON_THE_WAY, SHARE * words):
            wrong.append((cut, words, row))
        if (record is not None and row.requests != 1) or (cut.where == "head" and row.requests):
            wrong.append((cut, words, row))
        if record is not None and not record.complete:
            assert record.left_at is not None, "the upstream was never left"
            left.append(max(0.0, record.left_at - each.cut_at))
        if each.key in gone_at:
            gone.append(max(0.0, gone_at[each.key] - each.cut_at))
    show(
        f"{len(sent)} clients cut",
        where=dict(Counter(cut.where for cut in planned)),
        how=dict(Counter(cut.how for cut in planned)),
        upstreams_left=len(left),
        upstream_left_after_p50_s=percentile(left, 0.5),
        upstream_left_after_p99_s=percentile(left, 0.99),
        upstream_left_after_max_s=max(left),
        reservation_gone_after_max_s=max(gone),
        words_delivered=total["delivered"],
        words_charged=total["charged"],
        charges_off=len(wrong),
    )
    assert not wrong, wrong[:5]
    assert percentile(left, 0.99) <= slack
    assert max(gone) <= 1.0
    assert abs(total["delivered"] - total["charged"]) <= SHARE * total["delivered"]
