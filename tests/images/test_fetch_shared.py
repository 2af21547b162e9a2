"""Fetches that are kept, and fetches that are shared."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.domain.errors import ImageRefused
from tests.gateway import until
from tests.images.origin import PNG, QUICK, RULES, Origin, Watch, moved, reply
from tests.images.samples import make_image
from tests.scripted import End, Head, Pause, Send

URL = "http://pub.example/a"
MAX = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("way", ["peek", "fetch"])
async def test_kept_for_a_while(origin: Origin, way: str) -> None:
    """What was fetched is kept as long as its host says, and then fetched again."""
    origin.on("/a", reply(PNG, 200, ("Cache-Control", "max-age=30")))
    clock, watch = Clock(), Watch()
    async with origin.fetcher(now=clock, observe=watch) as fetcher:
        for seconds in (0, 29.9, 0.1):
            clock.now += seconds
            await getattr(fetcher, way)(URL, RULES, MAX, "key")
    assert watch.results == ["miss", "hit", "miss"]
    assert len(origin.requests) == 2
    assert watch.outcomes == ["ok", "ok"]
    assert watch.sizes == [len(PNG)] * 2


async def test_what_is_kept_is_whole(origin: Origin) -> None:
    """A verdict is none for bytes, and bytes under one policy or cap are none for another's."""
    origin.on("/a", lambda _: reply())
    other = (replace(RULES[0], deny=("x.example",)),)
    async with origin.fetcher() as fetcher:
        await fetcher.peek(URL, RULES, MAX, "key")
        for rules, cap in ((RULES, MAX), (other, MAX), (RULES, MAX + 1), (RULES + other, MAX)):
            assert (await fetcher.fetch(URL, rules, cap, "key")).data == PNG
    assert len(origin.requests) == 5


async def test_shortest_hop(origin: Origin) -> None:
    """What a redirect led to is kept no longer than the redirect itself."""
    origin.on("/a", moved("/b", 302, ("Cache-Control", "no-store")))
    origin.on("/b", reply(PNG, 200, ("Cache-Control", "max-age=3600")))
    async with origin.fetcher() as fetcher:
        for _ in range(2):
            await fetcher.fetch(URL, RULES, MAX, "key")
    assert origin.paths == ["/a", "/b"] * 2


async def test_failures_are_not_kept(origin: Origin) -> None:
    """After a failure the next fetch asks again."""
    watch = Watch()
    async with origin.fetcher(observe=watch) as fetcher:
        with pytest.raises(ImageRefused):
            await fetcher.fetch(URL, RULES, MAX, "key")
        origin.on("/a", reply())
        assert (await fetcher.fetch(URL, RULES, MAX, "key")).data == PNG
    assert watch.outcomes == ["status", "ok"]


async def test_bytes_are_bounded(origin: Origin) -> None:
    """The images kept take no more bytes than they may; the one used last stays."""
    big = make_image("PNG", 200, 200, icc_profile=bytes(range(256)) * 4)
    limits = replace(QUICK, kept_image_bytes=2 * len(big) + 200)
    origin.otherwise = reply(big)
    watch = Watch()
    async with origin.fetcher(limits, observe=watch) as fetcher:
        for n in (1, 2, 1, 3, 1, 2):
            await fetcher.fetch(f"http://pub.example/{n}", RULES, MAX, "key")
    assert watch.results == ["miss", "miss", "hit", "miss", "hit", "miss"]


async def test_one_fetch_for_all(origin: Origin) -> None:
    """Equal URLs at the same time are one fetch, whoever's they are."""
    gate = asyncio.Event()
    origin.on("/a", [Pause(gate), *reply(PNG, 200, ("Cache-Control", "no-store"))])
    watch = Watch()
    async with origin.fetcher(observe=watch) as fetcher:
        tasks = [
            asyncio.create_task(fetcher.fetch(URL, RULES, MAX, f"key {n % 5}")) for n in range(20)
        ]
        await until(lambda: len(watch.results) == 20)
        gate.set()
        assert {(await task).data for task in tasks} == {PNG}
    assert len(origin.requests) == 1
    assert watch.results == ["miss", *["shared"] * 19]


async def test_those_who_stay(origin: Origin) -> None:
    """Who leaves takes the fetch from nobody else, not even who began it."""
    gate = asyncio.Event()
    origin.on("/a", [Head(200, ()), Send(PNG[:30]), Pause(gate), Send(PNG[30:]), End()])
    async with origin.fetcher() as fetcher:
        first, second, third = (
            asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key")) for _ in range(3)
        )
        await origin.plain.wait_requests(1)
        for task in (first, third):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gate.set()
        assert (await second).data == PNG
    assert len(origin.requests) == 1


async def test_a_failure_for_each(origin: Origin) -> None:
    """Who shares a fetch that fails has an error of their own to add to."""
    gate = asyncio.Event()
    origin.on("/a", [Pause(gate), *reply(b"", 404)])
    watch = Watch()
    async with origin.fetcher(observe=watch) as fetcher:
        tasks = [asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key")) for _ in range(2)]
        await until(lambda: len(watch.results) == 2)
        gate.set()
        one, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(one, ImageRefused)
    assert isinstance(other, ImageRefused)
    assert (one.cause, other.cause) == ("status", "status")
    assert one is not other


async def test_after_all_have_left(origin: Origin) -> None:
    """Who comes after all have left begins anew, and is not ended with the old fetch."""
    gate = asyncio.Event()
    origin.on("/a", [Pause(gate), *reply()])
    watch = Watch()
    async with origin.fetcher(observe=watch) as fetcher:
        first = asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key"))
        await origin.plain.wait_requests(1)
        first.cancel()
        second = asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key"))
        await origin.plain.wait_requests(2)
        third = asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key"))
        await until(lambda: len(watch.results) == 3)
        gate.set()
        assert (await second).data == (await third).data == PNG
    assert first.cancelled()
    assert watch.results == ["miss", "miss", "shared"]
