"""How many at a time, for a host, a key and in all; and how a fetch ends that nobody wants."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.gateway import until
from tests.images.origin import PNG, PUBLIC, QUICK, RULES, Origin, Watch, fails, hang, reply
from tests.scripted import Head, Pause, Split

URL = "http://pub.example/a"
MAX = 1 << 20


async def test_places_of_a_host(origin: Origin) -> None:
    """A host that hangs keeps its own places: other hosts' images come at once."""
    origin.names |= {"slow.example": [PUBLIC]}
    origin.on("/hang", hang())
    origin.on("/a", reply())
    limits = replace(QUICK, per_host=2, per_worker=4)
    async with origin.fetcher(limits) as fetcher, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(fails(fetcher, f"http://slow.example/hang?{n}", f"key {n}"))
            for n in range(6)
        ]
        origin.otherwise = hang()
        await until(lambda: len(origin.requests) == 2)
        assert (await fetcher.fetch(URL, RULES, MAX, "key")).data == PNG
        assert len(origin.requests) == 3
        await fetcher.close()
    assert {task.result().cause for task in tasks} == {"stopped"}


async def test_places_of_a_key(origin: Origin) -> None:
    """A key's fetches wait for each other, not for other keys'; equal ones share nothing of it."""
    origin.otherwise = hang()
    origin.on("/a", reply())
    limits = replace(QUICK, per_key=2)
    async with origin.fetcher(limits) as fetcher:
        waiting = [
            asyncio.create_task(fails(fetcher, f"http://pub.example/{n}", "greedy"))
            for n in range(4)
        ]
        await until(lambda: len(origin.requests) == 2)
        late = asyncio.create_task(fails(fetcher, URL, "greedy"))
        await asyncio.sleep(0)
        assert (await fetcher.fetch(URL, RULES, MAX, "other")).data == PNG
        assert origin.paths.count("/a") == 1
        for task in (*waiting, late):
            task.cancel()
        await asyncio.gather(*waiting, late, return_exceptions=True)


async def test_waiting_in_vain(origin: Origin) -> None:
    """Who does not get a place in time is told that the image cannot be fetched."""
    origin.otherwise = hang()
    limits = replace(QUICK, wait=0.1, per_key=1)
    async with origin.fetcher(limits) as fetcher:
        first = asyncio.create_task(fails(fetcher, URL))
        await until(lambda: len(origin.requests) == 1)
        assert (await fails(fetcher, "http://pub.example/b")).cause == "busy"
        first.cancel()
    async with origin.fetcher(replace(limits, per_worker=1)) as fetcher:
        first = asyncio.create_task(fails(fetcher, URL))
        await until(lambda: len(origin.requests) == 2)
        assert (await fails(fetcher, "http://pub.example/b", "other")).cause == "busy"
        first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_client_leaves(origin: Origin) -> None:
    """A fetch that nobody waits for any longer is closed at once, and leaves no place taken."""
    origin.on("/a", hang())
    watch = Watch()
    async with origin.fetcher(replace(QUICK, per_worker=1), observe=watch) as fetcher:
        for n in range(1, 4):
            task = asyncio.create_task(fetcher.fetch(URL, RULES, MAX, "key"))
            await origin.plain.wait_requests(n)
            task.cancel()
            await origin.plain.wait_closed(n)
        assert len(fetcher._hosts) == len(fetcher._keys) == 0
    assert watch.outcomes == ["stopped"] * 3


async def test_close(origin: Origin) -> None:
    """Closing ends every fetch, and those who wait are told."""
    origin.on("/a", hang())
    async with origin.fetcher() as fetcher:
        task = asyncio.create_task(fails(fetcher, URL))
        await origin.plain.wait_requests(1)
    assert (await task).cause == "stopped"
    await origin.plain.wait_closed(1)


async def test_drip_beside_others(origin: Origin) -> None:
    """While 40 hosts drip, others' images are fetched and the loop turns freely."""
    drip = Split(PNG, [1] * 20)
    origin.otherwise = [Head(200, ()), drip, Pause(asyncio.Event())]
    origin.on("/a", lambda _: reply(PNG, 200, ("Cache-Control", "no-store")))
    origin.names |= {f"drip{n}.example": [PUBLIC] for n in range(40)}
    async with origin.fetcher() as fetcher, asyncio.TaskGroup() as group:
        drips = [
            group.create_task(fails(fetcher, f"http://drip{n}.example/d", f"drip {n % 8}"))
            for n in range(40)
        ]
        await origin.plain.wait_requests(40)
        for _ in range(20):
            await fetcher.fetch(URL, RULES, MAX, "key")
        assert not any(task.done() for task in drips)
        await fetcher.close()
