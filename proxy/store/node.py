"""One server of the store: its connections, its deadlines, and whether it is away.

A command that has no answer is no proof that the server is gone: a connection may be stale, or
this process too busy to have read the answer. So a probe asks on a connection of its own. If
the server answers, the command is waited for, and in the end sent once more; if not, the server
is `away`: all that waits and all that comes fails at once, and the probe goes on asking until it
is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MasterDownError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from proxy.domain.errors import StoreUnavailable
from proxy.store.commands import Command, Words, Work
from proxy.store.flushes import Flushes
from proxy.store.lines import Lines, converse

_AT_ONCE: Final = 32  # commands; the others wait their turn
_CONNECTIONS: Final = _AT_ONCE + 8  # some listen
_ATTEMPT: Final = 2.0  # seconds that a server which is there has for one command
_TURN: Final = 0.02  # seconds
_LOOKS: Final = 16  # turns of the loop at the least, until a server that does not answer is away
_LOOK: Final = 0.008  # seconds, each
_PROBE_EVERY: Final = 0.25  # seconds
_PROBE_DEADLINE: Final = 1.0
_CLOSE_DEADLINE: Final = 1.0

#: Nobody answered, or one who cannot yet: redis-py has LOADING and WRONGPASS among the first.
_SILENCE: Final = (NoConnection, NoAnswer, OSError)

#: What an old primary or a replica says: the store's name may lead to another server by now.
_NOT_PRIMARY: Final = (ReadOnlyError, MasterDownError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """`command`: seconds for one, connecting included. With `probing`, silence for so long is
    looked into; without, what failed has failed.
    """

    command: float
    probing: bool


#: A request is refused within 500 ms: a command, the look whether the server is there, and words.
GATEWAY: Final = Patience(0.25, probing=True)
#: Commands of a person, who would rather wait.
PATIENT: Final = Patience(5.0, probing=False)


@dataclass(frozen=True, slots=True)
class Away:
    """Since when (monotonic seconds) a server does not answer, and what came instead."""

    since: float
    cause: BaseException


def unavailable(cause: BaseException | None) -> StoreUnavailable:
    """What a client is told: nothing of the address or of the server's words."""
    error = StoreUnavailable(
        "The gateway's store cannot be reached, so no budget can be checked. Try again.",
        headers={"retry-after": "1"},
    )
    error.__cause__ = cause
    return error


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis' own errors as StoreUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


def connect(url: str) -> aioredis.Redis:
    """A client at `redis://`, `rediss://` or `unix://`; connects when it is first used.

    It has no deadlines and tries once: both are Node's. Raises ValueError for a URL with
    options that it does not understand.
    """
    pool: Any = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        pool.make_connection()
    except TypeError:
        raise ValueError("it has an option that is not known") from None
    return aioredis.Redis.from_pool(pool)


class Node:
    """A server. `missed` is called whenever it was looked for and did not answer."""

    def __init__(
        self,
        name: str,
        client: aioredis.Redis,
        patience: Patience,
        missed: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        # Its annotations answer for the synchronous client as well, and so fit neither.
        self.client: Any = client
        self.away: Away | None = None
        self.resent = 0  # commands so far, of each of which the first may yet arrive
        self._patience = patience
        # First come, first served: redis-py's pool lets newcomers overtake those that wait.
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._missed = missed
        self._lines = Lines(client)
        self._flushes = Flushes(self.exchange)
        self._limits: set[asyncio.Timeout] = set()
        self._looking: asyncio.Task[bool] | None = None
        self._probing: asyncio.Task[None] | None = None

    async def use(self, work: Work[T], *, twice: bool = True) -> T:
        """What `work` makes of the client, in time; `twice`: it may be done again.

        Raises StoreUnavailable where nobody answers, and the server's own errors as they are.
        """
        if twice and isinstance(work, Command):
            self._check_there()
            return await self._flushes.ask(work.words)  # type: ignore[no-any-return]
        return await self._do(work, twice)

    async def exchange(self, commands: Sequence[Words], *, twice: bool = True) -> list[Any]:
        """The replies to commands in one round trip; an error stands in its command's place."""
        replies = await self._do(lambda _: self._lines.exchange(commands), twice)
        if any(isinstance(reply, _NOT_PRIMARY) for reply in replies):
            await self._drop_idle()
        return replies

    async def _do(self, work: Work[T], twice: bool) -> T:
        for again in (twice, False):
            self._check_there()
            try:
                return await self._in_time(work)
            except _SILENCE as error:
                there = self._patience.probing and await self._answers(error)
                if there:
                    await self._drop_idle()  # others may be as stale as this one was
                if not (there and again):
                    raise unavailable(error) from error
                self.resent += 1
        raise AssertionError("the last try returns or raises")

    def _check_there(self) -> None:
        if self.away is not None:
            raise unavailable(self.away.cause)

    async def close(self) -> None:
        # Who still uses it does not connect again.
        self.away = Away(time.monotonic(), NoConnection("it was closed"))
        for task in (self._looking, self._probing):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(_CLOSE_DEADLINE):
                await self._lines.close()
                await self.client.aclose()
                await self._flushes.close()

    async def _in_time(self, work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        timer: asyncio.TimerHandle | None = None

        def late() -> None:
            nonlocal timer
            if self._patience.probing and loop.time() < begun + _ATTEMPT:
                self._start_look(NoAnswer())
                timer = loop.call_later(self._patience.command, late)
            elif not limit.expired():
                # A timer may fire late, before what came meanwhile is read: that gets a turn.
                limit.reschedule(loop.time() + _TURN)

        try:
            async with asyncio.timeout(None) as limit:
                self._limits.add(limit)
                timer = loop.call_later(self._patience.command, late)
                try:
                    async with self._room:
                        return await work(self.client)
                finally:
                    timer.cancel()
                    self._limits.discard(limit)
        except _NOT_PRIMARY:
            await self._drop_idle()
            raise

    async def _drop_idle(self) -> None:
        await self._lines.drop_idle()
        await self.client.connection_pool.disconnect(inuse_connections=False)

    async def _answers(self, error: BaseException) -> bool:
        """Whether the server is there after all."""
        if self.away is not None:
            return False
        looking = self._start_look(error)
        await asyncio.wait({looking})
        return not looking.cancelled() and looking.result()

    def _start_look(self, error: BaseException) -> asyncio.Task[bool]:
        """One look for all who want to know."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(error), name=f"look {self.name}")
        return self._looking

    async def _look(self, error: BaseException) -> bool:
        if self.away is not None:
            return False  # found out meanwhile: the probe goes on
        self._probing = asyncio.create_task(self._probe(), name=f"probe {self.name}")
        # Counted in turns of the loop: where it is busy, each takes as long as it takes.
        for _ in range(_LOOKS):
            await asyncio.wait({self._probing}, timeout=_LOOK)
            if self._probing.done() or self.away is not None:
                return self.away is None
        self._lost(error)
        return False

    async def _probe(self) -> None:
        """Ask until the server answers."""
        while True:
            try:
                async with asyncio.timeout(_PROBE_DEADLINE):
                    await converse(self.client, "PING")
                break
            except ResponseError:
                break  # it refuses, so it is there
            except (RedisError, OSError) as error:
                self._lost(error)
            await asyncio.sleep(_PROBE_EVERY)
        if self.away is not None:
            await self._drop_idle()
        self.away = None

    def _lost(self, error: BaseException) -> None:
        if self.away is None:
            self.away = Away(time.monotonic(), error)
            for limit in self._limits:
                if not limit.expired():
                    limit.reschedule(0)
        if self._missed is not None:
            self._missed()


class Alone:
    """The one server of a store that is no cluster, with what a cluster has."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def nodes(self) -> list[Node]:
        return [self._node]

    @property
    def away(self) -> Away | None:
        return self._node.away

    def known(self, key: str) -> Node | None:
        return self._node

    async def find(self, key: str | None) -> Node:
        return self._node

    def redirected(self, error: AskError, by: Node, *, moved: bool) -> Node:
        raise ResponseError("it is part of a cluster: begin store.url with redis+cluster://")

    async def close(self) -> None:
        await self._node.close()
