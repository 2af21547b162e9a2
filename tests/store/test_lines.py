"""Commands that follow each other on one connection: few reads and writes, no shared fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser
from redis.exceptions import ReadOnlyError

from proxy.domain.errors import StoreUnavailable
from proxy.store import lines
from proxy.store.client import Store, refused
from proxy.store.layout import team_keys
from proxy.store.lines import Call, Line
from proxy.store.reach import GATEWAY
from tests.store.ledgers import open_till, until
from tests.store.wire import Wire, open_wire

KEYS = team_keys("vision")


class Wired:
    """A line on a transport that notes what is written; `ended` is why it was lost."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended: list[str] = []
        transport = SimpleNamespace(
            write=self.written.append, set_protocol=lambda _: None, abort=lambda: None
        )
        connection = SimpleNamespace(
            connect=self._connect,
            _parser=BaseParser,
            _writer=SimpleNamespace(transport=transport, close=lambda: None),
        )
        pool = SimpleNamespace(make_connection=lambda: connection)
        client = SimpleNamespace(connection_pool=pool)
        self.line = Line(client, 10.0, self.silent, self.lost)

    async def _connect(self) -> None: ...

    def silent(self, line: Line) -> None: ...

    def lost(self, line: Line, error: BaseException) -> None:
        self.ended.append(str(error))

    def ask(self, *names: str) -> list[asyncio.Future[Any]]:
        replies = [asyncio.get_running_loop().create_future() for _ in names]
        for name, reply in zip(names, replies, strict=True):
            self.line.send(Call(name.encode(), True, reply=reply))
        return replies


@pytest.fixture
async def wired() -> AsyncIterator[Wired]:
    made = Wired()
    await turns()
    yield made
    made.line.end()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = Store.open(store_url)
    await opened.ping()
    yield opened
    await opened.close()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_write(wired: Wired) -> None:
    """The first goes out at once, what else comes in that turn of the loop together, each to its
    own reply.
    """
    replies = wired.ask("a", "b", "c")
    assert wired.written == [b"a"]
    await turns()
    assert wired.written == [b"a", b"bc"]
    wired.line.data_received(b"+A\r\n+B")
    wired.line.data_received(b"\r\n:3\r\n")
    assert [reply.result() for reply in replies] == [b"A", b"B", 3]


async def test_no_waiting(wired: Wired) -> None:
    """What comes while others are not answered yet is sent all the same."""
    wired.ask("a")
    await turns()
    wired.ask("b")
    await turns()
    assert wired.written == [b"a", b"b"]


async def test_no_hurry(wired: Wired) -> None:
    """What is not wanted soon goes out with the next that is, or else a moment later."""
    wired.line.send(Call(b"a", True, soon=False))
    await turns()
    assert wired.written == []
    wired.ask("b")
    await turns()
    assert wired.written == [b"ab"]
    wired.line.send(Call(b"c", True, soon=False))
    await until(lambda: wired.written[1:] == [b"c"])


async def test_before_it_is_connected() -> None:
    """What comes before there is a connection is sent as soon as there is."""
    wired = Wired()
    (reply,) = wired.ask("a")
    assert wired.written == []
    await turns()
    wired.line.data_received(b"+A\r\n")
    assert await reply == b"A"
    wired.line.end()


async def test_bounded(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are sent without an answer; the others follow as answers come."""
    monkeypatch.setattr(lines, "_UNANSWERED", 3)
    wired.ask(*"abcdefg")
    await turns()
    assert wired.written == [b"a", b"bc"]
    wired.line.data_received(b"+A\r\n+B\r\n")
    assert wired.written == [b"a", b"bc", b"de"]


async def test_errors_are_not_shared(wired: Wired) -> None:
    """An error is that of its own command."""
    replies = wired.ask("a", "b")
    await turns()
    wired.line.data_received(b"-ERR wrong\r\n+B\r\n")
    assert [str(reply.result()) for reply in replies] == ["wrong", "b'B'"]


async def test_cancelled(wired: Wired) -> None:
    """Who is cancelled before it is sent is not sent; after that it costs the others nothing."""
    first, second = wired.ask("a", "b")
    await turns()
    third, fourth = wired.ask("c", "d")
    for reply in (first, third):
        reply.cancel()
    await turns()
    assert wired.written == [b"a", b"b", b"d"]
    wired.line.data_received(b"+A\r\n+B\r\n+D\r\n")
    assert (await second, await fourth) == (b"B", b"D")


async def test_lost(wired: Wired) -> None:
    """Of a connection that ends, what was not answered can be had."""
    wired.ask("a", "b")
    await turns()
    wired.line.data_received(b"+A\r\n")
    wired.line.connection_lost(None)
    assert wired.ended == ["the connection has ended"]
    assert [call.packed for call in wired.line.end()] == [b"b"]


@pytest.mark.parametrize("answer", [b"+A\r\n+B\r\n", b"+A\r\n?\r\n"])
async def test_nonsense(wired: Wired, answer: bytes) -> None:
    """A server that says what nobody asked for, or no Redis, is left."""
    (reply,) = wired.ask("a")
    await turns()
    wired.line.data_received(answer)
    assert await reply == b"A"
    assert len(wired.ended) == 1


async def test_not_yet(wired: Wired) -> None:
    """A server that cannot yet has not answered."""
    (reply,) = wired.ask("a")
    await turns()
    wired.line.data_received(b"-LOADING it is\r\n")
    assert not reply.done()
    assert len(wired.ended) == len(wired.line.end()) == 1


async def test_not_primary(wired: Wired) -> None:
    """A server that became a replica is left, with the answer that says so."""
    replies = wired.ask("a", "b")
    await turns()
    wired.line.data_received(b"-READONLY it is\r\n+B\r\n")
    assert isinstance(await replies[0], ReadOnlyError)
    assert await replies[1] == b"B"
    assert len(wired.ended) == 1


async def test_push(wired: Wired) -> None:
    """News that a server sends of its own accord answer nothing."""
    (reply,) = wired.ask("a")
    await turns()
    wired.line.data_received(b">2\r\n+invalidate\r\n_\r\n+A\r\n")
    assert await reply == b"A"


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


@asynccontextmanager
async def held(url: str, *words: str) -> AsyncIterator[tuple[Wire, Store, asyncio.Task[Any]]]:
    """A command of which a store's connection gets no answer, and a wire that holds any STRLEN."""
    async with open_wire(url, GATEWAY) as (wire, store):
        await store.ping()
        wire.hold = b"STRLEN"
        asked = asyncio.create_task(store.ask("x", *words))
        await wire.held.wait()
        yield wire, store, asked
        wire.hold = None
        wire.release()
        await wire.passed.wait()


async def test_a_connection_that_is_stale(store_url: str) -> None:
    """Where a server is there and does not answer on a connection, others are used."""
    async with held(store_url, "STRLEN", "x") as (_, store, asked):
        begun = asyncio.get_running_loop().time()
        await asyncio.gather(*(store.ping() for _ in range(20)))
        assert asyncio.get_running_loop().time() - begun < 1.5  # after two seconds it is given up
        assert not asked.done()
        asked.cancel()
        await asyncio.wait({asked})


async def test_asked_again(store_url: str) -> None:
    """What a server that is there does not answer on one connection is asked on another."""
    async with held(store_url, "STRLEN", "x") as (wire, store, asked):
        wire.hold = None
        await asyncio.gather(*(store.ping() for _ in range(20)))
        assert await asked == 0
        assert store.resent.count > 0


async def test_refused_when_asked_again(store_url: str) -> None:
    """The server's own error is told of what is asked again, too."""
    async with held(store_url, "STRLEN") as (wire, _, asked):
        wire.hold = None
        with pytest.raises(StoreUnavailable) as told:
            await asked
        assert refused(told.value)


async def test_never_answered(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not answered on another connection either has failed, and the server is there."""
    monkeypatch.setattr("proxy.store.node._ATTEMPT", 0.0)
    async with held(store_url, "STRLEN", "x") as (_, store, asked):
        with pytest.raises(StoreUnavailable):
            await asked
        await store.ping()
        assert store.resent.count == 1
