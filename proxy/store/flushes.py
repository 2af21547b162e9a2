"""Commands for one server: those that wait at the same time share a flush.

A lone command goes out at once. What comes while it is under way waits for its end, and goes out
with all that waits by then: the busier the gateway, the fewer reads and writes a command costs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from proxy.store.commands import Words

_MOST: Final = 64  # commands in one flush
_HOLD: Final = 0.01  # seconds for which a flush holds up others: no longer on a slow network

#: Sends commands in one flush; the replies, in the place of one that failed its error.
Send = Callable[[Sequence[Words]], Awaitable[list[Any]]]


class Flushes:
    """Those to one server."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held = False
        self._waiting: deque[tuple[Words, asyncio.Future[Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, words: Words) -> Any:
        """The reply to one command. Raises its error, or what `send` raises."""
        if self._held:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((words, waiter))
            reply = await waiter
        else:
            self._held = True
            (reply,) = await self._flush((words,))
        if isinstance(reply, Exception):
            raise reply.with_traceback(None)  # others may have raised it as well
        return reply

    async def close(self) -> None:
        """Wait for what is under way, and for what waits."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _flush(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands, and let others go when it is done, or takes too long."""
        holds = True

        def let_go() -> None:
            nonlocal holds
            if holds:
                holds = False
                self._next()

        timer = asyncio.get_running_loop().call_later(_HOLD, let_go)
        try:
            return await self._send(commands)
        finally:
            timer.cancel()
            let_go()

    def _next(self) -> None:
        self._held = bool(self._waiting)
        if self._held:
            task = asyncio.create_task(self._flush_waiting(), name="store-flush")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _flush_waiting(self) -> None:
        some = [self._waiting.popleft() for _ in range(min(_MOST, len(self._waiting)))]
        some = [(words, waiter) for words, waiter in some if not waiter.done()]
        try:
            replies = await self._flush([words for words, _ in some])
        except Exception as error:
            replies = [error] * len(some)
        for (_, waiter), reply in zip(some, replies, strict=True):
            if not waiter.done():
                waiter.set_result(reply)
