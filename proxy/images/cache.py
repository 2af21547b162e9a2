"""What was fetched, kept for a while, and what is being fetched, shared."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    value: V
    size: int
    until: float


class Cache(Generic[V]):
    """The most recently used values: at most `entries`, and `size` bytes in all.

    `now` gives seconds of any clock that only goes forward.
    """

    def __init__(self, entries: int, size: int, now: Callable[[], float]) -> None:
        self._most_entries = entries
        self._most_bytes = size
        self._bytes = 0
        self._now = now
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> V | None:
        """What is kept and not yet stale."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._now():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: Hashable, value: V, size: int, seconds: float) -> None:
        """Keep a value of `size` bytes; nothing for 0 seconds, or where it has no room at all."""
        if key in self._entries:
            self._drop(key)
        if seconds <= 0 or size > self._most_bytes:
            return
        self._entries[key] = _Entry(value, size, self._now() + seconds)
        self._bytes += size
        while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        self._bytes -= self._entries.pop(key).size


class _Flight(Generic[V]):
    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters = 0


class Flights(Generic[V]):
    """One task for all who want the same at the same time.

    It ends early when nobody waits for it any longer.
    """

    def __init__(self) -> None:
        self._flying: dict[Hashable, _Flight[V]] = {}
        self._tasks: set[asyncio.Task[V]] = set()  # those that were cancelled too

    def __contains__(self, key: Hashable) -> bool:
        return key in self._flying

    async def join(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What the task for `key` comes to; `start` makes it where there is none.

        Its exception is raised to every waiter, the same object. Raises InterruptedError
        where `stop` ended it.
        """
        flight = self._flying.get(key)
        if flight is None:
            flight = self._flying[key] = _Flight(asyncio.create_task(start()))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.waiters += 1
        try:
            await asyncio.wait({flight.task})
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise InterruptedError
        return flight.task.result()

    async def stop(self) -> None:
        """End every task, and wait for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _land(self, key: Hashable, flight: _Flight[V]) -> None:
        self._tasks.discard(flight.task)
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # those who would ask may have left

    def _forget(self, key: Hashable, flight: _Flight[V]) -> None:
        if self._flying.get(key) is flight:
            del self._flying[key]
