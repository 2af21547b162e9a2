"""A wire between a gateway and its store, that a test can cut and mend."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from proxy.store.client import PATIENT, Store
from proxy.store.node import Alone, Node
from proxy.store.reach import Patience


class Wire:
    """Passes bytes both ways, as long as it is whole.

    Where `lose` is set, the next command with these bytes in it reaches the store, and its
    answer is lost: the wire is cut; with `drop` only its connection is. Where `hold` is set,
    such a command waits in the wire (`held`) until `release`, even if its client has gone, and
    its answer is lost (`passed`). `url` is this end of it.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self.whole = True
        self.lose: bytes | None = None
        self.drop: bytes | None = None
        self.hold: bytes | None = None
        self.held = asyncio.Event()
        self.passed = asyncio.Event()

    def cut(self) -> None:
        """End every connection; new ones end at once."""
        self.whole = False
        for writer in self._writers:
            writer.close()

    def mend(self) -> None:
        self.whole = True

    def release(self) -> None:
        self._passing.set()

    async def end(self) -> None:
        """Let nothing be on its way any more."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        task = asyncio.create_task(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if not self.whole:
                return
            async with self._store() as (back, forth):
                ends = {writer, forth}
                self._writers |= ends
                try:
                    await asyncio.gather(self._up(reader, forth), self._down(back, writer))
                finally:
                    self._writers -= ends

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        back, forth = await asyncio.open_unix_connection(self._target)
        with contextlib.closing(forth):
            yield back, forth

    async def _up(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            if self.lose and self.lose in data:
                self.lose = None
                await self._carry(data)
                self.cut()
            elif self.drop and self.drop in data:
                self.drop = None
                await self._carry(data)
                break
            elif self.hold and self.hold in data:
                self.held.set()
                await self._passing.wait()
                await self._carry(data)
                self.passed.set()
            else:
                forth.write(data)
        forth.close()

    async def _carry(self, data: bytes) -> None:
        """Take a command to the store by another way, and see it answered."""
        async with self._store() as (back, forth):
            forth.write(data)
            await back.read(1)

    async def _down(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await back.read(1 << 20):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def open_wire(url: str, patience: Patience = PATIENT) -> AsyncIterator[tuple[Wire, Store]]:
    """A wire to the store at a unix:// URL, and a Store at its other end; it tries once, if it
    is not given another patience.
    """
    with tempfile.TemporaryDirectory(prefix="vg-") as short:
        wire = Wire(url.removeprefix("unix://"))
        wire.url = f"unix://{short}/w"
        server = await asyncio.start_unix_server(wire.connected, f"{short}/w")
        client = aioredis.Redis.from_url(f"unix://{short}/w", retry=Retry(NoBackoff(), 0))
        store = Store(Alone(Node("wire", client, patience)))
        try:
            yield wire, store
        finally:
            with contextlib.suppress(OSError):
                await store.close()
            server.close()
            await wire.end()
            await server.wait_closed()
