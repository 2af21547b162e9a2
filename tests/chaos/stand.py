"""The whole of it: a store, a provider, workers; keys, load, and the tables that are printed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.domain.limits import parse_limit
from proxy.store.client import PATIENT, Store
from proxy.store.directory import Directory
from tests.chaos.books import Books
from tests.chaos.provider import Served
from tests.fleet import ROOT, Fleet, run_fleet
from tests.gateway import PEPPER, samples


class Provider:
    """The provider's process, and its books; at a `port`, or at any."""

    def __init__(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.provider", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/v1"

    async def records(self, prefix: str = "") -> dict[str, Served]:
        """What was served, by tag."""
        told = msgspec.json.decode(await self._get("/records"), type=list[Served])
        return {served.tag: served for served in told if served.tag.startswith(prefix)}

    async def release(self) -> None:
        """Let every stream go on that holds."""
        await self._get("/release")

    async def _get(self, path: str) -> bytes:
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as answer:
            return await answer.read()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True)
class Key:
    id: str
    secret: str
    team: str


@dataclass
class Stand:
    """`url` is the store's, as the workers have it."""

    url: str
    provider: Provider
    fleet: Fleet
    books: Books

    @contextlib.asynccontextmanager
    async def directory(self) -> AsyncIterator[Directory]:
        store = Store.open(self.url, patience=PATIENT)
        try:
            yield Directory(store, (PEPPER,))
        finally:
            await store.close()

    async def keys(self, team: str, count: int, *limits: str) -> list[Key]:
        """A new team with these limits, and its keys."""
        async with self.directory() as directory:
            await directory.create_team(team, limits=tuple(map(parse_limit, limits)))
            made = [await directory.create_key(team, f"k{index}") for index in range(count)]
        return [Key(each.record.id, each.secret, team) for each in made]

    def urls(self) -> list[str]:
        return [worker.url for worker in self.fleet.workers]

    async def metrics(self) -> list[dict[str, float]]:
        """Of each worker every sample."""

        async def scraped(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
            async with session.get(f"{url}/metrics") as answer:
                return samples(await answer.text())

        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(scraped(session, w.admin) for w in self.fleet.workers))

    async def free(self, *teams: str, seconds: float = 5.0) -> float:
        """Wait until no reservation of the teams is left; how long that took."""
        begun = time.monotonic()
        await until(lambda: not any(self.books.live(team) for team in teams), seconds)
        return time.monotonic() - begun


async def until(reached: Callable[[], Any], seconds: float) -> None:
    """Look until it is so. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            found = reached()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)  # between two looks


@contextlib.contextmanager
def run_provider(port: int = 0) -> Iterator[Provider]:
    provider = Provider(port)
    try:
        yield provider
    finally:
        provider.stop()


@contextlib.contextmanager
def run_stand(
    folder: Path,
    store_url: str,
    workers: int = 2,
    *,
    where: Callable[[str], str] | None = None,
    **changes: Any,
) -> Iterator[Stand]:
    """Workers on a store; `where` is the server of a team, if there are several."""
    with (
        run_provider() as provider,
        run_fleet(folder, store_url, provider.url, workers, **changes) as fleet,
    ):
        yield Stand(store_url, provider, fleet, Books(where or (lambda _: store_url)))


def tell(line: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def show(title: str, **figures: object) -> None:
    """A small table."""
    tell(f"\n{title}")
    for name, value in figures.items():
        shown = f"{value:.3f}" if isinstance(value, float) else value
        tell(f"  {name.replace('_', ' '):34} {shown}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
