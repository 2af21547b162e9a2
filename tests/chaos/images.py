"""Images that cost: what other streams, and the worker's memory, feel of them."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from tests.chaos.flood import MODEL, Flood
from tests.chaos.stand import Stand, run_stand, show
from tests.fleet import ROOT

MIB: Final = 1 << 20

#: What a worker may grow by beside the images: buffers, and what its allocator keeps.
_BESIDE: Final = 24 * MIB


@dataclass(frozen=True)
class Case:
    """One image of each `name` in `requests` requests, or bodies of `size` bytes; how each is
    answered, and the bytes that are in flight at the most.
    """

    name: str
    requests: int
    status: int
    flight: int
    images: int = 1
    size: int = 0

    def flood(self, origin: str) -> Flood:
        if self.size:
            return Flood(count=self.requests, size=self.size)
        links = [
            [f"{origin}/{self.name}/{n}-{image}" for image in range(self.images)]
            for n in range(self.requests)
        ]
        return Flood(links=links)


#: A key may have 8 fetches under way.
CASES: Final = (
    Case("drip", 16, 400, 0),
    Case("endless", 16, 400, 8 * 20 * MIB),
    Case("bomb", 16, 400, 0),
    Case("loop", 16, 400, 0),
    Case("cat", 4, 200, 4 * 10 * MIB * 7 // 3, images=10),
    Case("bodies", 50, 200, 50 * 20_000_000, size=20_000_000),
)


@dataclass
class Images:
    stand: Stand
    outside: str

    @property
    def pid(self) -> int:
        return self.stand.fleet.workers[0].pid

    def memory(self, field: str) -> int:
        """VmRSS or VmHWM of the worker, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    async def taken(self) -> tuple[int, int]:
        """How many bodies the provider of images had, and their bytes."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.outside}/taken") as got:
            bodies, size = msgspec.json.decode(await got.read())
            return bodies, size

    async def flood(self, secret: str, flood: Flood) -> dict[str, int]:
        """The count of each status, by a process of its own."""
        async with _running("flood", self.stand.urls()[0], secret) as process:
            told, _ = await process.communicate(msgspec.json.encode(flood))
        found: dict[str, int] = msgspec.json.decode(told)
        return found

    async def hold(self, secret: str, case: Case) -> int:
        """The bytes by which the worker grew at the most. The images are answered as they are to
        be, and held in twice their bytes.
        """
        before, base = await self.taken(), self.memory("VmRSS")
        self.forget_peak()
        found = await self.flood(secret, case.flood(self.outside))
        peak, after = self.memory("VmHWM") - base, await self.taken()
        assert found == {str(case.status): case.requests}, found
        assert after[0] - before[0] == (case.requests if case.status == 200 else 0)
        assert after[1] - before[1] >= case.requests * case.size
        assert peak <= 2 * case.flight + _BESIDE, peak / MIB
        return peak

    def streams(
        self, secret: str, count: int
    ) -> contextlib.AbstractAsyncContextManager[list[float]]:
        return streams(self.stand.urls()[0], secret, count)


@contextlib.asynccontextmanager
async def streams(url: str, secret: str, count: int) -> AsyncIterator[list[float]]:
    """Streams under way for the length of the block; then their largest gap is in the list."""
    found: list[float] = []
    async with _running("gaps", url, secret, str(count)) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"under way\n"
        yield found
        told, _ = await process.communicate(b"")
        gap, chunks = told.split()
        assert int(chunks) > 0
        found.append(float(gap))


@contextlib.asynccontextmanager
async def _running(module: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.chaos.{module}", *words, cwd=ROOT, stdin=pipe, stdout=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.contextmanager
def run_images(folder: Path, store_url: str) -> Iterator[Images]:
    """One worker; its provider of MODEL and all images are in a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.outside"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        outside = f"http://127.0.0.1:{port}"
        changes: dict[str, Any] = {
            "providers": {
                "images": {"base_url": f"{outside}/v1", "api_key": "sk-i", "image_urls": "forward"}
            },
            "models": {MODEL: {"targets": [{"provider": "images"}]}},
            "images": {
                "mode": "inline",
                "schemes": ["http", "data"],
                "ports": [port],
                "hosts": {"internal": ["127.0.0.1"]},
            },
        }
        with run_stand(folder, store_url, workers=1, **changes) as stand:
            yield Images(stand, outside)
    finally:
        process.kill()
        process.communicate()


async def cost(images: Images, case: Case, *, runs: int = 3, streams: int = 10) -> None:
    """Other streams wait no more than 50 ms longer, by the median of runs with and without the
    images, which are held in twice their bytes.
    """
    secret = (await images.stand.keys(f"images-{case.name}", 1))[0].secret
    quiet, loaded, peaks = [], [], []
    for _ in range(runs):
        async with images.streams(secret, streams) as gaps:
            await asyncio.sleep(3.0)  # it is the time that is measured
        quiet += gaps
        async with images.streams(secret, streams) as gaps:
            peaks.append(await images.hold(secret, case))
        loaded += gaps
    show(
        case.name,
        largest_gap_quiet=statistics.median(quiet),
        largest_gap_loaded=statistics.median(loaded),
        in_flight_MiB=case.flight / MIB,
        peak_MiB=max(peaks) / MIB,
    )
    assert statistics.median(loaded) <= statistics.median(quiet) + 0.05
