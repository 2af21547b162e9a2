"""What two workers know of a target: each its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from tests.scripted import ScriptedUpstream, chat_stream, error_json
from tests.web.workers import Worker, make_key, serving

AVAILABLE = 'visiongate_target_available{model="gpt-4o",provider="openai"}'
BREAKER = {"providers": {"openai": {"breaker": {"failures": 1, "pause": "1h"}}}}


async def shown(worker: Worker, value: float) -> None:
    """Wait until the metrics of all workers together say so."""
    async with asyncio.timeout(10):
        while (await worker.metrics()).get(AVAILABLE) != value:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # between two looks: workers tell each second


async def asked(worker: Worker, key: str) -> int:
    """A request on a connection of its own, which is one worker's: the status."""
    async with aiohttp.ClientSession() as session, worker.post(session, key) as answer:
        await answer.read()
        return answer.status


async def test_one_of_two_workers_finds_a_target_out(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Its breaker is its own: the other worker asks on, and the gauge shows the worst of both."""
    upstream.script(error_json(500, "boom"))
    upstream.script(chat_stream(["Hi"]))
    key = await make_key(store_url)
    async with serving(tmp_path, store_url, upstream.url, "2s", workers=2) as worker:
        worker.change(BREAKER)
        await worker.serves("reloaded")
        await shown(worker, 1)
        assert await asked(worker, key) == 502
        found: set[int] = set()
        async with asyncio.timeout(20):
            while found != {200, 503}:  # who of the two takes a connection is not ours to say
                found |= set(await asyncio.gather(*(asked(worker, key) for _ in range(20))))
        await shown(worker, 0)
