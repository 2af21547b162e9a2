"""A store that is away: told at once, looked for, and used again when it is back."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.layout import team_keys
from proxy.store.reach import GATEWAY
from tests.gateway import Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.store.fronts import Front, open_front
from tests.valkey import run_valkey

AILMENTS = ("stopped", "paused", "silent", "loading")
PROMPT = 0.5  # seconds of waiting, until a request is refused
SOON = 1.3  # seconds, for "about one"
KEYS = team_keys("vision")


class Idle:
    """Counts the seconds for which this loop has nothing to do, in a block: however starved the
    machine is, a timer of 8 ms counts as 8 ms.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Idle:
        loop: Any = asyncio.get_running_loop()
        self._selector = loop._selector
        self._select = self._selector.select
        self._selector.select = self._timed
        return self

    def __exit__(self, *_: object) -> None:
        del self._selector.select

    def _timed(self, timeout: float | None = None) -> Any:
        begun = time.monotonic()
        ready = self._select(timeout)
        waited = time.monotonic() - begun
        self.seconds += waited if timeout is None else min(waited, max(0.0, timeout))
        return ready


@pytest.fixture(scope="module")
def own_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that these tests may stop."""
    with run_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
async def front(own_url: str) -> AsyncIterator[tuple[Front, str]]:
    async with open_front(own_url) as opened:
        yield opened


@pytest.fixture
async def store(front: tuple[Front, str]) -> AsyncIterator[Store]:
    opened = Store.open(front[1])
    await opened.ping()
    yield opened
    await opened.close()


async def refused(*calls: Any) -> float:
    """Seconds of waiting until every call was refused."""
    with Idle() as idle:
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable)
    return idle.seconds


async def ask_at_once(gate: Gateway, key: str, count: int) -> list[int]:
    """The status of each of so many requests."""

    async def ask() -> int:
        async with gate.post(key) as answer:
            await answer.read()
            return int(answer.status)

    return await asyncio.gather(*(ask() for _ in range(count)))


@pytest.mark.parametrize("ailment", AILMENTS)
async def test_gateway(front: tuple[Front, str], ailment: str) -> None:
    """Whatever ails the store, 300 requests at once are each told so in time, and it comes back."""
    async with ScriptedUpstream() as upstream, open_gateway(front[1], upstream.url) as gate:
        upstream.script(chat_stream(["one"]))
        key = await gate.key(team=ailment)
        assert await ask_at_once(gate, key, 1) == [200]
        await gate.idle()
        front[0].ail(ailment)
        with Idle() as idle:
            assert set(await ask_at_once(gate, key, 300)) == {503}
        assert idle.seconds < PROMPT
        assert gate.door.store.away
        async with gate.session.get(f"{gate.admin}/readyz") as ready:
            assert ready.status == 503
        await front[0].recover()
        await until(lambda: not gate.door.store.away, SOON)
        assert await ask_at_once(gate, key, 1) == [200]
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("calls", [1, 300])
@pytest.mark.parametrize("ailment", AILMENTS)
async def test_store(front: tuple[Front, str], store: Store, ailment: str, calls: int) -> None:
    """The first calls are told in time; then, without asking, all are told at once."""
    front[0].ail(ailment)
    assert await refused(*(store.run("sweep", KEYS, "", 1) for _ in range(calls))) < PROMPT
    assert store.away
    assert await refused(store.run("sweep", KEYS, "", 1)) < 0.05
    await front[0].recover()
    await until(lambda: not store.away, SOON)
    assert await store.run("sweep", KEYS, "", 1) == 0


async def test_names_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose name cannot be found is away, and so is one that nobody looks up in time."""
    loop, held = asyncio.get_running_loop(), asyncio.Event()

    async def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def slow(*_: Any, **__: Any) -> Any:
        await held.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    for lookup in (unknown, slow):
        monkeypatch.setattr(loop, "getaddrinfo", lookup)
        store = Store.open("redis://store.invalid")
        assert await refused(*(store.ping() for _ in range(300))) < PROMPT
        assert store.away
        await store.close()


async def test_busy_loop(store: Store) -> None:
    """A loop too busy to read an answer in time does not take the store for dead."""

    async def hog() -> None:
        time.sleep(0.4)  # noqa: ASYNC251  (it is the hog)

    connection = await store.ask(None, "CLIENT", "ID")
    for _ in range(2):
        found, _ = await asyncio.gather(store.run("sweep", KEYS, "", 1), hog())
        assert found == 0
        assert not store.away
    assert await store.ask(None, "CLIENT", "ID") == connection


async def test_a_burst_on_a_busy_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that wait for their turn for longer than a deadline are all answered."""

    async def hog() -> None:
        while True:
            time.sleep(0.02)  # noqa: ASYNC251  (work of others, in every turn of the loop)
            await asyncio.sleep(0)

    monkeypatch.setattr("proxy.store.lines._UNANSWERED", 4)
    hogging, begun = asyncio.create_task(hog()), time.monotonic()
    answers = await asyncio.gather(*(store.run("sweep", KEYS, "", 1) for _ in range(150)))
    hogging.cancel()
    assert answers == [0] * 150
    assert time.monotonic() - begun > 2 * GATEWAY.command
    assert not store.away


async def test_answer_lost(store: Store, front: tuple[Front, str]) -> None:
    """Where an answer was lost and the server is there, a command is sent once more."""
    assert await store.run("sweep", KEYS, "", 1) == 0
    answers = lose_first(front[0], b":0\r\n")
    assert await store.run("sweep", KEYS, "", 1) == 0
    assert answers == [b":0\r\n"] * 2


async def test_turns(store: Store) -> None:
    """Who waits for a connection is not overtaken by those who ask again and again."""
    answered = []

    async def insist(number: int) -> None:
        for _ in range(3):
            await store.ask(None, "PING")
            answered.append(number)

    await asyncio.gather(*(insist(number) for number in range(100)))
    assert set(answered[:150]) == set(range(100))


def lose_first(front: Front, lost: bytes) -> list[bytes]:
    """Break every connection instead of passing on the first such answer; all that came."""
    answers: list[bytes] = []

    def change(answer: bytes) -> bytes:
        if answer == lost:
            answers.append(answer)
            if len(answers) == 1:
                front._hang_up()
                return b""
        return answer

    front._change = change
    return answers


async def test_not_twice(store: Store, front: tuple[Front, str]) -> None:
    """What may not be done again is not: a record whose answer was lost is told as failed."""
    assert await store.run("replace", KEYS, "team", b"", b"one") == 1
    answers = lose_first(front[0], b":1\r\n")
    await refused(store.run("replace", KEYS, "team", b"one", b"two"))
    assert len(answers) == 1
    await until(lambda: not store.away, SOON)
    assert await store.ask(KEYS[0], "HGET", KEYS[0], "team") == b"two"
    assert await store.ask(KEYS[0], "DEL", KEYS[0]) == 1


async def test_full_is_not_away(store: Store) -> None:
    """A server that refuses is there."""
    await store.ask(None, "CONFIG", "SET", "maxmemory", "1")
    assert await refused(store.run("replace", KEYS, "team", b"", b"one")) < PROMPT
    assert not store.away
    await store.ask(None, "CONFIG", "SET", "maxmemory", "0")


async def test_not_primary(store: Store) -> None:
    """A server that became a replica is left: the next command connects anew."""
    used = int(await store.ask(None, "CLIENT", "ID"))
    assert int(await store.ask(None, "CLIENT", "ID")) == used
    await store.ask(None, "REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable) as caught:
        await store.run("replace", KEYS, "team", b"", b"one")
    assert isinstance(caught.value.__cause__, ReadOnlyError)
    assert not store.away
    assert int(await store.ask(None, "CLIENT", "ID")) != used
    await store.ask(None, "REPLICAOF", "NO", "ONE")
    assert await store.run("sweep", KEYS, "", 1) == 0


async def test_close_while_away(front: tuple[Front, str], tmp_path: Path) -> None:
    """A store that is away is closed without waiting for it."""
    store = Store.open(front[1])
    await store.ping()
    front[0].ail("silent")
    await refused(store.ping())
    with Idle() as idle:
        await store.close()
    assert idle.seconds < PROMPT
