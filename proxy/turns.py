"""Long work on the event loop, a little at a time.

A thread would not do: it gives the interpreter up only every 5 ms, and uvloop asks for it at
each callback.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from proxy.domain.steps import Steps

T = TypeVar("T")

#: Seconds for which the loop is held.
_HOLD: Final = 0.001

_LOOPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()


class turn:
    """Of all that do this on a loop one does it at a time, in turn, and between two of them the
    loop serves all else.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._lock = _LOOPS.get(loop) or _LOOPS.setdefault(loop, asyncio.Lock())

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, failed: type[BaseException] | None, *of: object) -> None:
        try:
            if not failed:
                await asyncio.sleep(0)
        finally:
            self._lock.release()


async def in_turns(steps: Steps[T]) -> T:
    """Do the work, a turn after the other; of a single step it does not wait for one.

    Raises what the work raises.
    """
    try:
        next(steps)
        while True:
            async with turn():
                until = time.perf_counter() + _HOLD
                next(steps)
                while time.perf_counter() < until:
                    next(steps)
    except StopIteration as done:
        made: T = done.value
        return made
    finally:
        steps.close()
