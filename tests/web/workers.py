"""`python -m proxy serve` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from proxy.domain.limits import parse_limit
from proxy.store.client import Store
from proxy.store.directory import Directory
from tests.gateway import CONFIG, HELLO, PEPPER, events, merged
from tests.web.raw import RawClient, unchunked


class Worker:
    """One worker; it is killed where it has not ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def told(self, event: str) -> dict[str, Any]:
        """The next line of the log that tells of `event`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            while True:
                text = await self.process.stdout.readline()
                assert text, f"the log ended before {event!r}"
                line: dict[str, Any] = json.loads(text)
                if line["event"] == event:
                    return line

    def post(self, session: aiohttp.ClientSession, key: str, **changes: Any) -> Any:
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.url}/v1/chat/completions"
        return session.post(url, json={**HELLO, **changes}, headers=headers)

    async def breaks_off(self, client: RawClient) -> dict[str, Any]:
        """Check that a stream ends with the word that the worker stops, and then the worker ends
        well; the request's line.
        """
        (error,) = events(unchunked(await client.rest()))
        assert error["error"]["type"] == "server_error"
        assert "shutting down" in error["error"]["message"]
        line = await self.told("request")
        assert line["ended"] == "draining"
        await self.ends_well()
        return line

    async def ends_well(self) -> None:
        await self.told("stopped")
        assert await asyncio.wait_for(self.process.wait(), 5) == 0


@asynccontextmanager
async def serving(
    folder: Path, store_url: str, upstream: str, drain: str, workers: int = 1
) -> AsyncIterator[Worker]:
    given = {
        "store": {"url": store_url},
        "keys": {"pepper": PEPPER},
        "providers": {"openai": {"base_url": upstream}},
        "server": {"drain": drain, "workers": workers},
    }
    config = folder / "visiongate.yaml"
    config.write_text(yaml.safe_dump(merged(CONFIG, given)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "-c", str(config)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
    )
    worker = Worker(process)
    try:
        worker.url = (await worker.told("serving"))["public"]
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def make_key(store_url: str) -> str:
    """A key of 1M tokens a day, without a gateway."""
    store = Store.open(store_url)
    try:
        directory = Directory(store, (PEPPER,))
        await directory.create_team("vision")
        limits = (parse_limit("1M tokens/day"),)
        return (await directory.create_key("vision", "ci", limits=limits)).secret
    finally:
        await store.close()
