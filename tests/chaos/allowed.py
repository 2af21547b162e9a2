"""A store that goes away where that is forgiven: `on_failure: allow`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from proxy import housekeeping
from proxy.store.layout import WORKERS as HEARD
from tests.chaos.books import as_charged, summed
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
#: Seconds for which a worker is heard of before it admits on its own account.
STEADY = 1.5 * housekeeping._LOOK_EVERY


async def allowed(stand: Stand, fault: Fault, name: str, *, seconds: float) -> None:
    """What is spent while the store is away stays within the bound that the workers announced,
    and all of it is in the books afterwards. `stand` has no workers yet.
    """
    teams = [f"{kind}-{int(seconds)}" for kind in ("spent", "ample")]
    keys = {team: await stand.keys(team, KEYS, f"{BUDGET} tokens/day") for team in teams}
    for worker in [stand.fleet.begin() for _ in range(WORKERS)]:
        await asyncio.to_thread(stand.fleet.join, worker)
    first = _heard(stand)
    assert len(first) == WORKERS
    sent = await _spend(stand, keys[teams[0]])
    sent += await _send(stand, keys[teams[1]], "known", 2 * KEYS * WORKERS)
    await stand.free(*teams)
    await until(lambda: all(_heard(stand)[id] >= at + STEADY for id, at in first.items()), 30)
    await asyncio.to_thread(fault.begin)
    meanwhile = await _go_on(stand, keys, seconds)
    await asyncio.to_thread(fault.end)
    try:
        await until(lambda: _settled(stand, teams), 30)
    finally:
        over = max(_used(stand, team) for team in teams) - BUDGET
        # Each worker's share is larger than a request, so none is admitted beside it.
        bound = int(_announced(stand)["tokens/day"] / len(teams)) if fault.away else 0
        show(
            f"the store {name} for {seconds:g} s, on_failure: allow",
            announced_for_a_team=bound,
            overspent=max(0, over),
            streams=dict(Counter((each.ended, each.status) for each in [*sent, *meanwhile])),
            admitted_meanwhile=sum(each.ended == "complete" for each in meanwhile),
            slowest_meanwhile_s=max((each.seconds for each in meanwhile), default=0.0),
        )
    assert over <= bound
    assert {each.ended for each in [*sent, *meanwhile]} <= {"complete", "refused"}
    assert any(each.ended == "complete" for each in meanwhile)
    assert fault.away or not any(each.status == 503 for each in meanwhile)
    for team in teams:
        stand.books.agree(team)


def _heard(stand: Stand) -> dict[bytes, float]:
    """When the store last heard of each worker, in seconds."""
    with stand.books.client("") as client:
        return {id: at / 1000 for id, at in client.zrange(HEARD, 0, -1, withscores=True)}


async def _go_on(stand: Stand, keys: dict[str, list[Key]], seconds: float) -> list[Sent]:
    """Requests of every team, for so long."""
    sent: list[Sent] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for some in keys.values():
            sent += await _send(stand, some, "away", 4 * WORKERS)
    return sent


async def _settled(stand: Stand, teams: list[str]) -> bool:
    """Whether the rows are what the provider served."""
    served = await stand.provider.records()
    rows = [row for team in teams for row in stand.books.charged(team).values()]
    return summed(rows) == as_charged(served.values())


def _announced(stand: Stand) -> dict[str, Any]:
    """What a worker said of its grace when it started: the most over, by unit and window."""
    most: dict[str, Any] = next(
        line["most_over"] for line in stand.fleet.log() if line.get("event") == "grace"
    )
    return most


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
    row = summed(stand.books.charged(team).values())
    return row.input + row.output
