"""Commands that share a flush: few reads and writes, and no shared fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.commands import Words
from proxy.store.flushes import Flushes
from proxy.store.layout import team_keys
from proxy.store.node import GATEWAY
from tests.store.ledgers import open_till, until
from tests.store.wire import open_wire

KEYS = team_keys("vision")


class Line:
    """Stands in for a server: it answers a flush when it is told to."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self._answers: list[asyncio.Future[list[Any]]] = []

    async def send(self, commands: Sequence[Words]) -> list[Any]:
        self.sent.append([str(words[0]) for words in commands])
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        return await answer

    def answer(self, flush: int, *replies: Any) -> None:
        """What comes back, or what is raised."""
        if isinstance(replies[0], StoreUnavailable):
            self._answers[flush].set_exception(replies[0])
        else:
            self._answers[flush].set_result(list(replies))


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def flushes(line: Line) -> Flushes:
    return Flushes(line.send)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    await opened.ping()
    yield opened
    await opened.close()


async def asked(flushes: Flushes, *names: str) -> list[asyncio.Task[Any]]:
    """Commands of which each has gone as far as it can."""
    tasks = [asyncio.create_task(flushes.ask((name,))) for name in names]
    await asyncio.sleep(0)
    return tasks


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_alone(line: Line, flushes: Flushes) -> None:
    """A lone command is sent in the very turn in which it is asked."""
    lone = flushes.ask(("one",))
    lone.send(None)
    assert line.sent == [["one"]]
    lone.close()


async def test_shared(line: Line, flushes: Flushes) -> None:
    """What comes while a flush is under way goes out together, each to its own reply."""
    tasks = await asked(flushes, "a", "b", "c", "d")
    assert line.sent == [["a"]]
    line.answer(0, "A")
    await turns()
    assert line.sent[1:] == [["b", "c", "d"]]
    line.answer(1, "B", "C", "D")
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]


async def test_no_overtaking(line: Line, flushes: Flushes) -> None:
    """Who comes as a flush ends does not overtake those that waited for it."""
    tasks = await asked(flushes, "a", "b")
    line.answer(0, "A")
    await asyncio.wait(tasks[:1])
    tasks += await asked(flushes, "c")
    assert line.sent == [["a"], ["b"]]
    line.answer(1, "B")
    await turns()
    assert line.sent[2] == ["c"]


async def test_bounded(line: Line, flushes: Flushes) -> None:
    """A flush takes 64 commands; the others go in the next."""
    await asked(flushes, *("x" for _ in range(100)))
    line.answer(0, "X")
    await turns()
    line.answer(1, *("X" for _ in range(64)))
    await turns()
    assert [len(flush) for flush in line.sent] == [1, 64, 35]


async def test_errors_are_not_shared(line: Line, flushes: Flushes) -> None:
    """An error in a flush is that of its own command."""
    tasks = await asked(flushes, "a", "b", "c")
    line.answer(0, "A")
    await turns()
    line.answer(1, redis.ResponseError("wrong"), "C")
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in found] == ["A", "wrong", "C"]


async def test_a_flush_that_fails(line: Line, flushes: Flushes) -> None:
    """All of a flush that fails are told so, and those behind it go on."""
    tasks = await asked(flushes, "a", "b", "c")
    line.answer(0, StoreUnavailable("gone"))
    await turns()
    tasks += await asked(flushes, "d")
    line.answer(1, StoreUnavailable("gone again"))
    await turns()
    line.answer(2, "D")
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in found] == ["gone", "gone again", "gone again", "D"]


async def test_cancelled(line: Line, flushes: Flushes) -> None:
    """Of a flush, one that is cancelled does not harm the others; who waits is then not sent."""
    first = await asked(flushes, "a", "b", "c")
    line.answer(0, "A")
    await turns()
    last = await asked(flushes, "d", "e")
    for task in (first[1], last[0]):
        task.cancel()
    await turns()
    line.answer(1, "B", "C")
    assert await first[2] == "C"
    line.answer(2, "E")
    assert await last[1] == "E"
    assert line.sent == [["a"], ["b", "c"], ["e"]]


async def test_the_first_is_cancelled(line: Line, flushes: Flushes) -> None:
    """Where the one under way is cancelled, those that wait go on."""
    tasks = await asked(flushes, "a", "b")
    tasks[0].cancel()
    await turns()
    line.answer(1, "B")
    assert await tasks[1] == "B"


async def test_held_up(line: Line, flushes: Flushes) -> None:
    """A flush that takes long does not hold up what waits."""
    tasks = await asked(flushes, "a", "b", "c")
    await until(lambda: len(line.sent) == 2)
    assert line.sent[1] == ["b", "c"]
    line.answer(1, "B", "C")
    assert await asyncio.gather(*tasks[1:]) == ["B", "C"]


async def test_few_reads(store_url: str) -> None:
    """64 reservations at once, and their settlements, cost the server a few reads."""
    async with open_till(store_url) as till:
        access = await till.access("1G tokens/day")

        async def call() -> None:
            async with till.reserve(access, 1):
                pass

        await call()
        await till.ledger.settled()
        before = reads(store_url)
        await asyncio.gather(*(call() for _ in range(64)))
        await till.ledger.settled()
        assert reads(store_url) - before < 32  # one each would make 128


def reads(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("stats")["total_reads_processed"])


async def test_forgotten(store: Store) -> None:
    """A server that has forgotten the script is given it by each of a flush."""
    await store.redis.script_flush()
    calls = (store.run("sweep", KEYS, "", 1) for _ in range(20))
    assert await asyncio.gather(*calls) == [0] * 20


async def test_a_connection_that_is_stale(store_url: str) -> None:
    """Where a server is there and does not answer on a connection, others are used."""
    async with open_wire(store_url, GATEWAY) as (wire, store):
        await store.ping()
        wire.hold = b"STRLEN"
        held = asyncio.create_task(store.ask("x", "STRLEN", "x"))
        await wire.held.wait()
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(store.ping() for _ in range(20)))
        assert asyncio.get_running_loop().time() - begun < 1.5  # after two seconds it is given up
        assert not held.done()
        wire.hold = None
        held.cancel()
        await asyncio.wait({held})
        wire.release()
