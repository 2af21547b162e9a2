"""Clients that leave at random moments."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.chaos.books import Books, Row, looking
from tests.chaos.provider import Order, Served
from tests.chaos.stand import Key, Stand, percentile, show
from tests.chaos.traffic import Cut, Sent, ask

#: What may be charged beyond what a client saw: this share of it, or so many words. What is written
#: to it after it has left counts as delivered, until that is noticed.
SHARE, WORDS = 0.05, 2
#: Seconds without a word, in which a client's leaving is not noticed by writing to it.
SILENCE = 20.0
PER_TEAM = 20


@contextlib.contextmanager
def departures(books: Books, teams: list[str]) -> Iterator[dict[str, float]]:
    """When the last reservation of each key was gone."""
    gone_at: dict[str, float] = {}
    before: set[str] = set()

    def look() -> None:
        nonlocal before
        now = {key for team in teams for key in books.live(team)}
        gone_at.update(dict.fromkeys(before - now, time.monotonic()))
        before = now

    with looking(look, 0.03):
        yield gone_at


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
    few: float = 0.02,
) -> None:
    """Each upstream is left within 100 ms (`slack` s), each reservation gone within 1 s, and each
    charge within 5% of what was delivered, but for `few`: streams of which more was on its way.
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
    with departures(stand.books, teams) as gone_at:
        sent = await asyncio.gather(*(one(i, key, *plans[i]) for i, key in enumerate(keys)))
        await stand.free(*teams)
    served = await stand.provider.records(f"cuts-{seed}:")
    charged = {id: row for team in teams for id, row in stand.books.charged(team).items()}
    for team in teams:
        stand.books.agree(team)
    planned = [cut for _, cut in plans]
    assert {each.ended for each in sent} == {"cut"}
    gone = [gone_at[each.key] - each.cut_at for each in sent if each.key in gone_at]
    _judge_time(sent, served, planned, gone, slack)
    _judge_charges(sent, served, charged, planned, few)


def _judge_time(
    sent: list[Sent],
    served: dict[str, Served],
    planned: list[Cut],
    gone: list[float],
    slack: float,
) -> None:
    records = [(each, served[each.order.tag]) for each in sent if each.order.tag in served]
    open_then = [(each, record.left_at) for each, record in records if not record.complete]
    left = [max(0.0, at - each.cut_at) for each, at in open_then if at is not None]
    show(
        f"{len(sent)} clients cut",
        where=dict(Counter(cut.where for cut in planned)),
        how=dict(Counter(cut.how for cut in planned)),
        upstreams_left=f"{len(left)} of {len(open_then)}",
        upstream_left_after_p50_s=percentile(left, 0.5),
        upstream_left_after_p99_s=percentile(left, 0.99),
        upstream_left_after_max_s=max(left),
        reservation_gone_after_max_s=max(gone),
    )
    assert len(left) == len(open_then)
    assert max(left) <= slack
    assert max(gone) <= 1.0


def _judge_charges(
    sent: list[Sent],
    served: dict[str, Served],
    charged: dict[str, Row],
    planned: list[Cut],
    few: float,
) -> None:
    total, wrong, beyond = Counter[str](), [], []
    for each, cut in zip(sent, planned, strict=True):
        record, row = served.get(each.order.tag), charged.get(each.key, Row())
        written = record.words if record else 0
        total.update(seen=each.words, charged=row.output, written=written)
        # What a client saw was counted before, and what was not written cannot have been.
        asked = (record is not None) <= row.requests <= (cut.where != "head")
        if not asked or not each.words <= row.output <= written:
            wrong.append((each, cut, written, row))
        beyond.append(row.output - max(each.words + WORDS, int(each.words * (1 + SHARE))))
    off = [words for words in beyond if words > 0]
    show(
        "  the books",
        words_that_clients_saw=total["seen"],
        words_charged=total["charged"],
        words_that_the_provider_wrote=total["written"],
        charged_more_than_5_percent_above=f"{len(off)} of {len(sent)}",
        most_words_beyond_that=max(off, default=0),
        charges_off=len(wrong),
    )
    assert not wrong, wrong[:5]
    assert len(off) <= few * len(sent)
    assert total["charged"] <= (1 + SHARE) * total["seen"]
