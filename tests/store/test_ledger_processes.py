"""One budget, and several processes that spend it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.store.ledgers import open_till

ROOT = Path(__file__).parents[2]
WORKER = """
import asyncio, sys
from proxy.domain.errors import LimitExceeded
from tests.store.ledgers import open_till

async def main(url, secret):
    async with open_till(url) as till:
        access = await till.keys.authenticate(secret)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        blocks = [till.reserve(access, 1) for _ in range(50)]
        found = await asyncio.gather(*(b.__aenter__() for b in blocks), return_exceptions=True)
        assert all(not isinstance(f, BaseException) or isinstance(f, LimitExceeded) for f in found)
        print(sum(not isinstance(f, BaseException) for f in found), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes(store_url: str) -> None:
    """Of a hundred requests at once from two processes, a budget for twenty admits twenty."""
    async with open_till(store_url) as till:
        secret = (await till.key("20 tokens/day")).secret
        words = [sys.executable, "-c", WORKER, store_url, secret]
        workers = [
            await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdin=PIPE, stdout=PIPE)
            for _ in range(2)
        ]
        outputs = [await worker.stdout.readline() for worker in workers if worker.stdout]
        assert outputs == [b"ready\n"] * 2
        answers = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
        assert sum(int(out) for out, _ in answers) == 20
        assert len(till.scripts.contents().leases) == 20
