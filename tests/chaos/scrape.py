"""Metrics of many teams and keys, asked for while streams are read."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from statistics import median

import aiohttp

from tests.chaos.images import streams
from tests.chaos.stand import Key, Stand, show, until
from tests.gateway import HELLO, samples

#: Seconds for a scrape, and between two chunks of a stream.
LONGEST, GAP = 1.0, 0.05
CLIENTS = 24


async def use(stand: Stand, keys: Sequence[Key]) -> None:
    """One stream by each key, over connections that are spread over the workers."""
    left = iter(keys)
    body = {**HELLO, "user": '{"tag":"scrape","words":1}'}
    url = f"{stand.urls()[0]}/v1/chat/completions"

    async def client() -> None:
        while some := list(itertools.islice(left, 50)):
            async with aiohttp.ClientSession() as session:
                for key in some:
                    headers = {"Authorization": f"Bearer {key.secret}"}
                    async with session.post(url, json=body, headers=headers) as answer:
                        assert answer.status == 200, await answer.text()
                        await answer.read()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def scraped(stand: Stand) -> tuple[float, str]:
    """How long it took, and what was told."""
    began = time.monotonic()
    url = f"{stand.fleet.workers[0].admin}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
    return time.monotonic() - began, text


async def scrape(
    stand: Stand, *, teams: int = 500, each: int = 10, open: int = 40, times: int = 3
) -> None:
    """A scrape takes less than a second, and no stream waits 50 ms for it, where the machine has no
    other work; by the median of runs.
    """
    made = [await stand.keys(f"t{number}", each, "1M tokens/day") for number in range(teams)]
    keys = [key for some in made for key in some]
    await use(stand, keys)
    await use(stand, keys)  # most of them are known to both workers then
    await until(lambda: _complete(stand, 2 * len(keys)), 20)
    (watched,) = await stand.keys("watched", 1)
    took, quiet, gaps, text = list[float](), list[float](), list[float](), ""
    for _ in range(times):
        async with streams(stand.urls()[0], watched.secret, open) as found:
            await asyncio.sleep(3.0)  # it is the time that is measured
        quiet += found
        async with streams(stand.urls()[0], watched.secret, open) as found:
            for _ in range(4):
                seconds, text = await scraped(stand)
                took.append(seconds)
                await asyncio.sleep(0.5)  # between two scrapes
        gaps += found
    show(
        f"scrapes of {teams} teams with {each} keys each",
        series=len(samples(text)),
        MiB=len(text) / 2**20,
        longest_scrape_s=max(took),
        largest_gaps_quiet_s=sorted(quiet),
        largest_gaps_s=sorted(gaps),
    )
    assert max(took) < LONGEST
    assert median(gaps) < max(GAP, median(quiet) + GAP / 2)


async def _complete(stand: Stand, requests: int) -> bool:
    """Whether all workers have told of that many."""
    _, text = await scraped(stand)
    name = "visiongate_requests_total"
    return sum(v for n, v in samples(text).items() if n.startswith(name)) >= requests
