"""One server of the store: its connections, its deadlines, and whether it is away.

A command that has no answer is no proof that the server is gone: a connection may be stale, or
this process too busy to have read the answer. So a probe asks on a connection of its own. If
the server answers and the connection is silent still, that is given up, and the command sent
once more; if not, the server is `away`: all that waits and all that comes fails at once, and the
probe goes on asking until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import redis.asyncio as aioredis
from redis.exceptions import AskError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from proxy.domain.errors import StoreUnavailable
from proxy.store.commands import Command, Work
from proxy.store.lines import NOT_PRIMARY, Call, Line, converse
from proxy.store.reach import AT_ONCE, Away, Patience, Resent, unavailable

_ATTEMPT: Final = 2.0  # seconds that a server which is there has for one command
_TURN: Final = 0.02  # seconds
_LOOKS: Final = 16  # turns of the loop at the least, until a server that does not answer is away
_LOOK: Final = 0.008  # seconds, each
_PROBE_EVERY: Final = 0.25  # seconds
_PROBE_DEADLINE: Final = 1.0
_CLOSE_DEADLINE: Final = 1.0

#: Nobody answered, or one who cannot yet: redis-py has LOADING and WRONGPASS among the first.
_SILENCE: Final = (NoConnection, NoAnswer, OSError)

T = TypeVar("T")


class Node:
    """A server. `missed` is called whenever it was looked for and did not answer."""

    def __init__(
        self,
        name: str,
        client: aioredis.Redis,
        patience: Patience,
        missed: Callable[[], object] | None = None,
        resent: Resent | None = None,
    ) -> None:
        self.name = name
        # Its annotations answer for the synchronous client as well, and so fit neither.
        self.client: Any = client
        self.away: Away | None = None
        self.resent = resent or Resent()
        self._patience = patience
        # First come, first served: redis-py's pool lets newcomers overtake those that wait.
        self._room = asyncio.Semaphore(AT_ONCE)
        self._missed = missed
        self._line: Line | None = None
        self._limits: set[asyncio.Timeout] = set()
        self._looking: asyncio.Task[bool] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def use(self, work: Work[T], *, twice: bool = True) -> T:
        """What `work` makes of the client, in time; `twice`: it may be done again.

        Raises StoreUnavailable where nobody answers, and the server's own errors as they are.
        """
        if isinstance(work, Command):
            reply = await self.ask(work.packed, twice)
            if isinstance(reply, Exception):
                raise reply
            return work.read(self.client, reply)  # type: ignore[no-any-return]
        return await self._do(work, twice)

    def ask(self, packed: bytes, twice: bool) -> asyncio.Future[Any]:
        """What comes of a packed command: the reply, or as a value the error that `use` raises."""
        # To find out the running loop is a system call (getpid): the line knows it.
        loop = self._line.loop if self._line is not None else asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self.send(Call(packed, twice, True, reply))
        return reply

    def send(self, call: Call) -> None:
        """Send a command: it is told its reply, or the error that `use` raises."""
        if self.away is not None:
            call.told(unavailable(self.away.cause))
            return
        if self._line is None:
            self._line = Line(self.client, self._patience.command, self._silent, self._ended)
        self._line.send(call)

    def _silent(self, line: Line) -> None:
        """Calls wait, and nothing is heard: the line may be stale, or the server gone."""

        async def look() -> None:
            if self._patience.probing:
                await self._answers(NoAnswer())
            else:
                # A timer may fire late, before what came meanwhile is read: that gets a turn.
                await asyncio.sleep(_TURN)
            if line.quiet >= self._patience.command:
                self._ended(line, NoAnswer())
            else:
                line.watch()

        self._start(look(), "silent")

    def _ended(self, line: Line, error: BaseException) -> None:
        """A line is lost, or given up."""
        calls = self._leave(line)
        if calls:
            self._start(self._again(calls, error), "again")

    def _leave(self, line: Line | None) -> list[Call]:
        """Connect anew for what comes next; what the line has not answered."""
        if line is None:
            return []
        if line is self._line:
            self._line = None
        calls = line.end()
        self._start(line.closed(), "close")
        return calls

    async def _again(self, calls: Sequence[Call], error: BaseException) -> None:
        """Send once more what may be, if the server is there after all."""
        there = self._patience.probing and await self._answers(error)
        if there:
            await self._drop_idle()  # others may be as stale as this one was
        for call in calls:
            given_up = call.reply is not None and call.reply.done()
            if not there or not call.twice or given_up:
                call.told(unavailable(error))
                continue
            call.twice = False
            self.resent.count += 1
            if call is calls[0]:  # the line may have ended because of it
                self._start(self._alone(call), "alone")
            else:
                self.send(call)

    async def _alone(self, call: Call) -> None:
        """Send a command on a connection of the pool, where it holds nobody else up."""
        try:
            call.told(await self._do(Command(call.packed), twice=False))
        except (RedisError, StoreUnavailable) as error:
            call.told(error)

    def _start(self, work: Coroutine[Any, Any, None], what: str) -> None:
        task = asyncio.create_task(work, name=f"{what} {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, work: Work[T], twice: bool) -> T:
        for again in (twice, False):
            if self.away is not None:
                raise unavailable(self.away.cause)
            try:
                return await self._in_time(work)
            except _SILENCE as error:
                there = self._patience.probing and await self._answers(error)
                if there:
                    await self._drop_idle()  # others may be as stale as this one was
                if not (there and again):
                    raise unavailable(error) from error
                self.resent.count += 1
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        # Who still uses it does not connect again.
        self.away = Away(time.monotonic(), NoConnection("it was closed"))
        for task in (self._looking, self._probing):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(_CLOSE_DEADLINE):
                for call in self._leave(self._line):
                    call.told(unavailable(self.away.cause))
                await self.client.aclose()
                while self._tasks:
                    await asyncio.wait(self._tasks)

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
        except NOT_PRIMARY:
            await self._drop_idle()
            raise

    async def _drop_idle(self) -> None:
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
            for call in self._leave(self._line):
                call.told(unavailable(error))
        if self._missed is not None:
            self._missed()


class Alone:
    """The one server of a store that is no cluster, with what a cluster has."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.resent = node.resent

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
