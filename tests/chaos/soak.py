"""Mixed traffic for minutes: nothing grows, and every figure agrees in the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec

from proxy.domain.identity import KeyRecord
from proxy.domain.limits import NANO, parse_limit
from proxy.store.directory import Directory
from tests.chaos.cuts import plan
from tests.chaos.provider import Order
from tests.chaos.stand import Key, Stand, show, tell
from tests.chaos.traffic import DATA_IMAGE, LINK_IMAGE, Sent, ask

TEAM = "soak"
EVERY = 2.0
#: How much larger a worker may be at the end than after its warm-up.
GROWTH, GROWTH_BYTES = 1.05, 4 * 2**20


@dataclass
class Vitals:
    """A worker's resident bytes, open files and threads, as they were one after the other."""

    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def look(self, pid: int) -> None:
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        self.memory.append(pages * 4096)
        self.files.append(len(list((process / "fd").iterdir())))
        self.threads.append(len(list((process / "task").iterdir())))

    def parts(self) -> tuple[list[int], list[int]]:
        """Memory after the warm-up, and at the end: a fifth of the time each."""
        fifth = max(1, len(self.memory) // 5)
        return self.memory[fifth : 2 * fifth], self.memory[-fifth:]


@dataclass
class Soak:
    stand: Stand
    directory: Directory
    keys: list[Key]
    until: float
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    sent: list[tuple[str, Sent]] = field(default_factory=list)
    rotations: int = 0
    changes: int = 0

    async def client(self, kind: str) -> None:
        """One client of a kind; see KINDS."""
        number = 0
        while time.monotonic() < self.until:
            number += 1
            tag = f"soak:{kind}:{id(asyncio.current_task())}:{number}"
            self.sent.append((kind, await KINDS[kind](self, tag)))

    def url(self) -> str:
        return self.dice.choice(self.stand.urls())

    def order(self, tag: str) -> Order:
        pace = self.dice.choice((0.0, 0.005, 0.02))
        return Order(tag, self.dice.randint(2, 80), pace, wait=self.dice.uniform(0, 0.1))

    async def stream(self, tag: str) -> Sent:
        return await ask(self.url(), self.keys[0].secret, self.order(tag))

    async def whole(self, tag: str) -> Sent:
        return await ask(self.url(), self.keys[0].secret, self.order(tag), stream=False)

    async def image(self, tag: str) -> Sent:
        image = self.dice.choice((DATA_IMAGE, LINK_IMAGE))
        return await ask(self.url(), self.keys[1].secret, self.order(tag), image=image)

    async def refusal(self, tag: str) -> Sent:
        secret = self.dice.choice((self.keys[2].secret, "vg-nobody", ""))
        await asyncio.sleep(0.02)
        return await ask(self.url(), secret, self.order(tag))

    async def cut(self, tag: str) -> Sent:
        order, cut = plan(self.dice, tag)
        return await ask(self.url(), self.keys[3].secret, order, cut=cut)

    async def manage(self) -> None:
        """Rotate a key that is in use, and change a limit that does not bind."""
        while time.monotonic() < self.until:
            key = self.keys[0]
            record = await self.directory.key(key.id, TEAM)
            made = await self.directory.rotate_key(record, OVERLAP)
            self.keys[0] = Key(key.id, made.secret, TEAM)
            self.rotations += 1
            limit = parse_limit(f"{self.dice.randint(500, 900)}M tokens/day")

            def change(record: KeyRecord, limit: object = limit) -> KeyRecord:
                return msgspec.structs.replace(record, limits=(limit,))

            await self.directory.change_key(TEAM, self.keys[1].id, change)
            self.changes += 1
            await asyncio.sleep(1)


#: Seconds for which a secret that was rotated still works: one a second is made, ten may live.
OVERLAP = 8

Client = Callable[[Soak, str], Awaitable[Sent]]

#: What clients do, and how many of each there are.
KINDS: dict[str, Client] = {
    "stream": Soak.stream,
    "whole": Soak.whole,
    "image": Soak.image,
    "refusal": Soak.refusal,
    "cut": Soak.cut,
}
CLIENTS = {"stream": 10, "whole": 4, "image": 4, "refusal": 2, "cut": 6}


async def soak(stand: Stand, *, minutes: float) -> None:
    """Memory, files and threads stay as they were; rows, tallies, metrics and provider agree."""
    keys = [
        *await stand.keys(TEAM, 2, "10G tokens/day"),
        *await stand.keys("soak-spent", 1, "0 tokens/day"),
        *await stand.keys("soak-cut", 1),
    ]
    vitals = [Vitals() for _ in stand.fleet.workers]
    async with stand.directory() as directory:
        run = Soak(stand, directory, keys, time.monotonic() + 60 * minutes)
        tasks = [run.client(kind) for kind, count in CLIENTS.items() for _ in range(count)]
        running = asyncio.gather(run.manage(), *tasks)
        told = time.monotonic()
        while not running.done():
            for worker, vital in zip(stand.fleet.workers, vitals, strict=True):
                vital.look(worker.pid)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                tell(f"  {len(run.sent)} requests; {[v.memory[-1] >> 20 for v in vitals]} MiB")
            await asyncio.wait([running], timeout=EVERY)
        await running
    await stand.free(TEAM, "soak-spent", "soak-cut", seconds=10)
    await _judge(stand, run, vitals)


async def _judge(stand: Stand, run: Soak, vitals: list[Vitals]) -> None:
    for team in (TEAM, "soak-spent", "soak-cut"):
        stand.books.agree(team)
    samples = await stand.metrics()
    served = (await stand.provider.records("soak:")).values()
    delivered = sum(r.words for r in served if not r.tag.startswith("soak:cut:"))
    asked = sum(1 for r in served if not r.tag.startswith("soak:cut:"))
    rows = stand.books.charged(TEAM).values()
    found = [vital.parts() for vital in vitals]
    show(
        "soak",
        requests=dict(Counter((kind, each.ended, each.status) for kind, each in run.sent)),
        rotations=run.rotations,
        limits_changed=run.changes,
        memory_after_warm_up_MiB=[round(median(a) / 2**20, 1) for a, _ in found],
        memory_at_the_end_MiB=[round(median(b) / 2**20, 1) for _, b in found],
        most_files=[max(vital.files) for vital in vitals],
        files_at_the_end=[vital.files[-1] for vital in vitals],
        threads_at_the_end=[vital.threads[-1] for vital in vitals],
        words_delivered=delivered,
        words_charged=sum(row.output for row in rows),
    )
    expected = {"stream": "complete", "whole": "complete", "image": "complete"}
    expected |= {"refusal": "refused", "cut": "cut"}
    assert not [each for kind, each in run.sent if each.ended != expected[kind]]
    assert sum(row.output for row in rows) == delivered
    assert sum(row.requests for row in rows) == asked
    for after, end in found:
        assert median(end) <= median(after) * GROWTH + GROWTH_BYTES
    for vital in vitals:
        half = len(vital.files) // 2
        assert max(vital.files[half:]) <= max(vital.files[:half]) + 10
        assert max(vital.threads[half:]) <= max(vital.threads[:half]) + 2
    for team in (TEAM, "soak-cut"):
        _agrees(stand, team, samples)
    for sample in samples:
        assert _sum([sample], "visiongate_streams_active") == 0
        assert _sum([sample], "visiongate_tokens_reserved") == 0


def _agrees(stand: Stand, team: str, samples: list[dict[str, float]]) -> None:
    """The workers' counters add up to the ledger's rows."""
    rows = stand.books.contents(team).rows.values()
    for index, kind in ((1, "input"), (2, "output")):
        counted = _sum(samples, "visiongate_tokens_total", f'team="{team}"', f'kind="{kind}"')
        assert counted == sum(row[index] for row in rows), (team, kind)
    usd = _sum(samples, "visiongate_cost_usd_total", f'team="{team}"')
    assert abs(usd * NANO - sum(row[6] for row in rows)) < 1e-6 * NANO


def _sum(samples: list[dict[str, float]], name: str, *labels: str) -> float:
    return sum(
        value
        for sample in samples
        for series, value in sample.items()
        if series.partition("{")[0] == name and all(label in series for label in labels)
    )
