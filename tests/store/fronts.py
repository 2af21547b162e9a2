"""A front before a real server, that can fall ill in the ways in which a store does."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import redis

_TICK = 0.005
LOADING = b"-LOADING Valkey is loading the dataset in memory\r\n"


class Front:
    """A unix socket, or with `tls` a TCP port, that passes on what comes, while it is well.

    `change` may alter what the server answers.
    """

    def __init__(self, target: str, change: Callable[[bytes], bytes] = bytes) -> None:
        self._target = target
        self._change = change
        self._writers: set[asyncio.StreamWriter] = set()
        self._well = asyncio.Event()
        self._well.set()
        self._loading = False
        self._folder = tempfile.TemporaryDirectory(prefix="vg-")
        self._server: asyncio.Server | None = None
        with redis.Redis.from_url(f"unix://{target}") as client:
            self._pid = int(client.info("server")["process_id"])
        self.path = f"{self._folder.name}/f"

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self.path)

    async def start_tls(self, tls: ssl.SSLContext) -> int:
        """The port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=tls)
        return int(self._server.sockets[0].getsockname()[1])

    def ail(self, how: str) -> None:
        """Be `stopped`, `paused`, `silent` or `loading`."""
        if how == "paused":
            os.kill(self._pid, signal.SIGSTOP)
        elif how == "silent":
            self._well.clear()
        else:
            self._loading = how == "loading"
            self._hang_up()
            if how == "stopped" and self._server is not None:
                self._server.close()
                Path(self.path).unlink(missing_ok=True)

    async def recover(self) -> None:
        os.kill(self._pid, signal.SIGCONT)
        self._well.set()
        self._loading = False
        if self._server is not None and not self._server.is_serving():
            await self.start()

    async def close(self) -> None:
        os.kill(self._pid, signal.SIGCONT)
        self._well.set()
        if self._server is not None:
            self._server.close()
        self._hang_up()
        if self._server is not None:
            await self._server.wait_closed()
        self._folder.cleanup()

    def _hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, forth}
        try:
            await asyncio.gather(self._up(reader, writer, forth), self._down(back, writer))
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # the last: the loop ends, and nobody waits for this
        finally:
            for end in (writer, forth):
                end.close()
                self._writers.discard(end)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        forth: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(1 << 20):
            await self._well.wait()
            if self._loading:
                writer.write(LOADING * data.count(b"\r\n*") + LOADING)
            else:
                forth.write(data)
        forth.close()

    async def _down(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await back.read(1 << 20):
            writer.write(self._change(data))
        writer.close()


@asynccontextmanager
async def open_front(
    url: str, change: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[tuple[Front, str]]:
    """A front of the server at a unix:// URL, and the URL of the front."""
    front = Front(url.removeprefix("unix://"), change)
    await front.start()
    try:
        yield front, f"unix://{front.path}"
    finally:
        await front.close()


class Stopwatch:
    """Measures waiting: seconds, less those in which the loop was busy or had no processor."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._late = 0.0

    async def __aenter__(self) -> Stopwatch:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        await asyncio.wait({self._ticking})

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun - self._late

    async def _tick(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            self._late += time.monotonic() - before - _TICK
