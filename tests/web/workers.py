"""`python -m proxy serve` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from proxy.domain.limits import parse_limit
from proxy.store.client import Store
from proxy.store.directory import Directory
from tests.gateway import CONFIG, HELLO, PEPPER, events, merged, samples
from tests.scripted import ScriptedUpstream
from tests.web.raw import RawClient, unchunked
from tests.web.under_way import halting


class Worker:
    """A gateway with its workers; it is killed where it has not ended."""

    def __init__(self, process: asyncio.subprocess.Process, config: Path) -> None:
        self.process = process
        self.config = config
        self.url = self.admin = ""
        self.pids: list[int] = []

    async def serves(self, event: str = "serving") -> None:
        """Wait until it says so."""
        line = await self.told(event)
        self.url, self.admin, self.pids = line["public"], line["admin"], line["workers"]

    def change(self, changes: Mapping[str, Any] | str) -> None:
        """Lay changes over the configuration, or write a text in its place, and have it read."""
        text = changes
        if not isinstance(text, str):
            text = yaml.safe_dump(merged(yaml.safe_load(self.config.read_text()), changes))
        self.config.write_text(text)
        self.process.send_signal(signal.SIGHUP)

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name and labels, as the text has them."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin}/metrics") as told:
            return samples(await told.text())

    async def told(self, event: str) -> dict[str, Any]:
        """The next line of the log that tells of `event`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):  # a start on a busy machine
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
    folder: Path, store_url: str, upstream: str, drain: str, workers: int = 1, **changes: Any
) -> AsyncIterator[Worker]:
    """A gateway that serves, with `changes` over its usual configuration."""
    given = {
        "store": {"url": store_url, "data": str(folder / "var")},
        "keys": {"pepper": PEPPER},
        "providers": {"openai": {"base_url": upstream}},
        "server": {"drain": drain, "workers": workers},
    }
    config = folder / "visiongate.yaml"
    config.write_text(yaml.safe_dump(merged(merged(CONFIG, given), changes)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "-c", str(config)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
        start_new_session=True,  # a group of its own, to be killed as one
    )
    worker = Worker(process, config)
    try:
        await worker.serves()
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            for _ in range(3):  # the third kills the workers
                process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.communicate(), 10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Halted:
    """Streams of USAGE by one key; each goes on behind its first word when `over` is set."""

    worker: Worker
    key: str
    answers: Sequence[aiohttp.ClientResponse]
    over: asyncio.Event


@asynccontextmanager
async def halted(
    folder: Path, store_url: str, upstream: ScriptedUpstream, workers: int = 1, streams: int = 1
) -> AsyncIterator[Halted]:
    """Workers with so many streams under way, whose first word has come."""
    over = halting(upstream)
    key = await make_key(store_url)
    async with (
        serving(folder, store_url, upstream.url, "5s", workers) as worker,
        aiohttp.ClientSession() as session,
    ):
        answers = await asyncio.gather(*(worker.post(session, key) for _ in range(streams)))
        for answer in answers:
            await answer.content.readany()
        yield Halted(worker, key, answers, over)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def make_key(
    store_url: str, team: str = "vision", name: str = "ci", *, pepper: str = PEPPER
) -> str:
    """A key of 1M tokens a day, without a gateway; its team is made if there is none."""
    store = Store.open(store_url)
    try:
        directory = Directory(store, (pepper,))
        if team not in await directory.team_names():
            await directory.create_team(team)
        limits = (parse_limit("1M tokens/day"),)
        return (await directory.create_key(team, name, limits=limits)).secret
    finally:
        await store.close()
