"""Whose turn it is: so many fetches at a time for each name, for each host and in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """So many at a time for each name; only names in use are remembered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def at(self, name: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it."""
        place = self._places.setdefault(name, asyncio.Semaphore(self._limit))
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with place:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._places[name]


class Turn:
    """The places of one fetch, hop after hop, and its deadline.

    Enter `deadline` around the fetch: it is `wait` seconds off until the first place is
    had, and `total` seconds from then on.
    """

    def __init__(self, hosts: Places, worker: asyncio.Semaphore, wait: float, total: float) -> None:
        self.begun = False
        self.deadline = asyncio.timeout(wait)
        self._hosts = hosts
        self._worker = worker
        self._total = total

    @asynccontextmanager
    async def hold(self, host: str) -> AsyncIterator[None]:
        """A place for one hop: the host's first, so that who waits for it holds up no other."""
        async with self._hosts.at(host), self._worker:
            if not self.begun:
                self.begun = True
                self.deadline.reschedule(asyncio.get_running_loop().time() + self._total)
            yield
