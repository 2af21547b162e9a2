"""A thousand connections that dribble their heads, and one client that asks for something."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from bench.kernel import allow_open_files
from tests.chaos.stand import percentile, show
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.raw import RawClient, connected
from tests.web.workers import Worker, make_key, serving

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

CONNECTIONS = 1_000
WITHIN = 10.0  # seconds


async def dribbled(url: str, ready: asyncio.Barrier) -> tuple[float, bytes]:
    """A head that never ends, a byte a second: when it was ended, and with which words."""
    async with connected(url) as client:
        await ready.wait()
        began = time.monotonic()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nx-a: ")
        dribbling = asyncio.create_task(_dribble(client))
        try:
            told = await client.reader.readuntil(b"\r\n")
        finally:
            dribbling.cancel()
        return time.monotonic() - began, told


async def _dribble(client: RawClient) -> None:
    while True:
        await asyncio.sleep(1)
        await client.send(b"a")


async def probe(worker: Worker, key: str, over: asyncio.Event) -> list[float]:
    """How long each stream took, one after the other."""
    seconds = []
    async with aiohttp.ClientSession() as session:
        while not over.is_set():
            began = time.monotonic()
            async with worker.post(session, key) as answer:
                assert answer.status == 200
                assert b"[DONE]" in await answer.read()
            seconds.append(time.monotonic() - began)
    return seconds


async def read_log(worker: Worker) -> None:
    """Lest the pipe be full, and the gateway wait for us."""
    assert worker.process.stdout is not None
    while await worker.process.stdout.read(2**16):
        pass


async def test_a_thousand_slow_heads(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Each is ended in time, and streams are served throughout."""
    allow_open_files()
    upstream.script(chat_stream(["Hi"]))
    key, over = await make_key(store_url), asyncio.Event()
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(serving(tmp_path, store_url, upstream.url, "5s"))
        reading = asyncio.create_task(read_log(worker))
        ready = asyncio.Barrier(CONNECTIONS)
        probing = asyncio.create_task(probe(worker, key, over))
        ends = await asyncio.gather(*(dribbled(worker.url, ready) for _ in range(CONNECTIONS)))
        over.set()
        probes = await probing
        reading.cancel()
    lasted = [seconds for seconds, _ in ends]
    show(
        "a thousand slow heads",
        first_ended_s=min(lasted),
        last_ended_s=max(lasted),
        streams_meanwhile=len(probes),
        stream_p50_ms=percentile(probes, 0.5) * 1000,
        stream_p99_ms=percentile(probes, 0.99) * 1000,
        slowest_stream_ms=max(probes) * 1000,
    )
    assert {told for _, told in ends} == {b"HTTP/1.0 408 Request Timeout\r\n"}
    assert max(lasted) < WITHIN
    assert max(probes) < 3
    assert len(probes) > 2 * WITHIN
