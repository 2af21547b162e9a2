"""Mutated raw requests against a whole gateway: a few thousand in every run, and by `make fuzz`
REQUESTS (100,000) of them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fuzz.requests import corpus, mutants, send, upstream_script
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream

REQUESTS = int(os.environ.get("REQUESTS", "100000"))
SEED = int(os.environ.get("SEED", secrets.randbelow(2**32)))
AT_ONCE = 64


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not whole, as half of the mutants, is given up soon."""
    monkeypatch.setattr("proxy.web.connection.HEAD_TIME", 0.2)
    monkeypatch.setattr("proxy.web.read.BODY_TIME", 0.2)


async def storm(gate: Gateway, requests: Iterator[bytes]) -> Counter[int]:
    """Every request on a connection of its own, AT_ONCE at a time: how often each status came."""
    where, counts = urlsplit(gate.url), Counter[int]()

    async def worker() -> None:
        for raw in requests:
            try:
                counts[await send(str(where.hostname), where.port or 0, raw)] += 1
            except Exception as error:
                raise AssertionError(f"{error!r} of {raw!r}") from error

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    return counts


def our_tasks() -> int:
    """How many there are but for the upstream's own."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return len([name for name in names if "ScriptedUpstream" not in name])


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def stormed(store_url: str, upstream: ScriptedUpstream, seed: int, count: int) -> None:
    upstream.script(upstream_script(upstream.requests))
    server = {"keep_alive": "500ms"}
    async with open_gateway(store_url, upstream.url, server=server) as gate:
        key = await gate.key("1M requests/day")
        async with gate.get("/healthz") as answer:
            assert answer.status == 200
        tasks, files = our_tasks(), open_files()
        began = time.monotonic()
        counts = await storm(gate, islice(mutants(seed, corpus(key)), count))
        seconds = time.monotonic() - began
        print(f"\nrequests {count} in {seconds:.0f} s (SEED={seed}): {dict(counts)}")  # noqa: T201
        assert counts.total() == count
        assert min(counts[200], counts[400], counts[401], 20 * counts[408]) > count / 20
        async with gate.get("/healthz") as answer:
            assert answer.status == 200
        await gate.idle()
        await until(lambda: our_tasks() <= tasks)
        assert (await gate.used(key))["requests"][1] == 0
        assert open_files() - files <= 2 * AT_ONCE  # connections to the upstream, which are kept
        assert not [line for line in gate.log_lines() if line["event"] == "unexpected"]


async def test_a_few(store_url: str, upstream: ScriptedUpstream) -> None:
    """Each is answered or closed in time and never a fault of ours; nothing is left behind."""
    await stormed(store_url, upstream, 1, 3_000)


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
async def test_many(store_url: str, upstream: ScriptedUpstream) -> None:
    """So it is of REQUESTS, by another seed each time."""
    await stormed(store_url, upstream, SEED, REQUESTS)
