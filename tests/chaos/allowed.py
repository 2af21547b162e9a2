"""A store that goes away where that is forgiven: `on_failure: allow`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from tests.chaos.books import Row
from tests.chaos.outages import Fault
from tests.chaos.provider import Order
from tests.chaos.stand import Key, Stand, show, until
from tests.chaos.traffic import Sent, ask

ALLOW: dict[str, Any] = {"store": {"on_failure": "allow", "grace": "5%"}}
WORKERS = 2
WORDS = 20
#: More than one request reserves: the prompt is a few tokens.
WORST = 60
BUDGET = 20_000
KEYS = 4
#: Seconds after which the workers have heard of each other, and admit on their own account.
BEAT = 12.0


async def allowed(stand: Stand, fault: Fault, name: str, *, seconds: float) -> None:
    """What is spent while the store is away stays within the bound that the workers announced,
    and all of it is in the books afterwards. `stand` has no workers yet.
    """
    teams = [f"{kind}-{int(seconds)}" for kind in ("spent", "ample")]
    keys = {team: await stand.keys(team, KEYS, f"{BUDGET} tokens/day") for team in teams}
    for worker in [stand.fleet.begin() for _ in range(WORKERS)]:
        await asyncio.to_thread(stand.fleet.join, worker)
    sent = await _spend(stand, keys[teams[0]])
    sent += await _send(stand, keys[teams[1]], "known", 2 * KEYS * WORKERS)
    await stand.free(*teams)
    await asyncio.sleep(BEAT)
    await asyncio.to_thread(fault.begin)
    begun = time.monotonic()
    meanwhile: list[Sent] = []
    while time.monotonic() < begun + seconds:
        for team in teams:
            meanwhile += await _send(stand, keys[team], "away", 4 * WORKERS)
    await asyncio.to_thread(fault.end)
    sent += meanwhile

    async def settled() -> bool:
        served = await stand.provider.records()
        rows = [row for team in teams for row in stand.books.charged(team).values()]
        return _sums(rows) == [
            len(served),
            sum(record.input for record in served.values()),
            sum(record.words for record in served.values()),
        ]

    try:
        await until(settled, 30)
    finally:
        over = {team: _used(stand, team) - BUDGET for team in teams}
        announced = _announced(stand)
        show(
            f"the store {name} for {seconds:g} s, on_failure: allow",
            announced=announced.get("most_over"),
            overspent=max(0, over[teams[0]]),
            streams=dict(Counter((each.ended, each.status) for each in sent)),
            admitted_meanwhile=sum(each.ended == "complete" for each in meanwhile),
            slowest_meanwhile_s=max((each.seconds for each in meanwhile), default=0.0),
        )
    bound = announced["most_over"]["tokens/day"] / len(teams) + WORKERS * WORST
    assert max(over.values()) <= bound
    assert {each.ended for each in sent} <= {"complete", "refused"}
    for team in teams:
        stand.books.agree(team)
    if fault.away:
        assert any(each.ended == "complete" for each in meanwhile)


def _announced(stand: Stand) -> dict[str, Any]:
    """What a worker said of its grace when it started."""
    return next(line for line in stand.fleet.log() if line.get("event") == "grace")


async def _spend(stand: Stand, keys: list[Key]) -> list[Sent]:
    """Spend a team's whole budget, by all of its keys on every worker."""
    sent: list[Sent] = []
    while _used(stand, keys[0].team) + WORST <= BUDGET:
        sent += await _send(stand, keys, "spend", 40)
    return sent


async def _send(stand: Stand, keys: list[Key], tag: str, count: int) -> list[Sent]:
    """Requests of each key to each worker."""
    urls = stand.urls()
    plans = [(urls[i % len(urls)], keys[i // len(urls) % len(keys)], i) for i in range(count)]
    begun = time.monotonic()
    orders = [Order(f"{k.team}:{tag}:{begun}:{i}", WORDS) for _, k, i in plans]
    asked = [
        ask(url, key.secret, order, key=key.id)
        for (url, key, _), order in zip(plans, orders, strict=True)
    ]
    return await asyncio.gather(*asked)


def _used(stand: Stand, team: str) -> int:
    sums = _sums(stand.books.charged(team).values())
    return sums[1] + sums[2]


def _sums(rows: Any) -> list[int]:
    every: list[Row] = list(rows)
    return [sum(row[index] for row in every) for index in range(3)]
