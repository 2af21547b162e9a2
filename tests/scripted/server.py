"""The scripted upstream itself: connections, and what plays the steps on them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, cast

from tests.scripted.requests import MAX_HEAD, MalformedRequest, read_request
from tests.scripted.steps import (
    Beneath,
    Close,
    Cut,
    End,
    Head,
    Pause,
    Raw,
    Recorded,
    Reset,
    Script,
    Send,
    Sleep,
    Split,
    Step,
)

#: Requests of one connection that may wait for their script.
PIPELINE: Final = 16

_PHRASES = {int(status): status.phrase for status in HTTPStatus}

_Inbox = asyncio.Queue[tuple[Recorded, Script]]


class ScriptedUpstream:
    """A server on 127.0.0.1; scripts are taken in the order in which requests are complete.

    `requests` holds what came, `connections` how many there were, and `closed_at` when
    (the loop's time) a client left, by connection id: connections that a script ended are
    not in it. A half-close counts as leaving.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[Recorded] = []
        self.closed_at: dict[int, float] = {}
        self.connections = 0
        self._scripts: deque[Script] = deque()
        self._script: Script | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=MAX_HEAD, ssl=self._tls
        )
        self.port = cast(int, self._server.sockets[0].getsockname()[1])
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._errors and kind is None:
            raise self._errors[0]

    def script(self, script: Script) -> None:
        """Queue what answers one request: steps, or a function from the request to steps.

        When the queue is empty the last one answers again.
        """
        self._scripts.append(script if callable(script) else tuple(script))

    async def wait_requests(self, count: int) -> None:
        """Wait until `count` requests have come in whole."""
        await self._wait(lambda: len(self.requests) >= count)

    async def wait_closed(self, count: int) -> None:
        """Wait until clients have closed `count` connections."""
        await self._wait(lambda: len(self.closed_at) >= count)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._changed.clear()
            await self._changed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        """Read on while a script plays, so that a client's leaving is seen at once."""
        inbox, stage = _Inbox(PIPELINE), Stage(writer)
        player = asyncio.create_task(self._play(inbox, stage))
        try:
            await self._record(reader, inbox, number)
        except (OSError, EOFError):
            if not stage.ended:
                self.closed_at[number] = asyncio.get_running_loop().time()
                self._changed.set()
        except (MalformedRequest, LookupError) as error:
            self._errors.append(error)
        finally:
            writer.transport.abort()  # first: the wait below may be cancelled
            player.cancel()
            await asyncio.gather(player, return_exceptions=True)

    async def _record(self, reader: asyncio.StreamReader, inbox: _Inbox, number: int) -> None:
        while True:
            request = await read_request(reader, number)
            self.requests.append(request)
            self._changed.set()
            if self._scripts:
                self._script = self._scripts.popleft()
            if self._script is None:
                raise LookupError("a request came, but no script was given")
            await inbox.put((request, self._script))

    async def _play(self, inbox: _Inbox, stage: Stage) -> None:
        try:
            while not stage.ended:
                request, script = await inbox.get()
                for step in script(request) if callable(script) else script:
                    await stage.play(step)
                if request.header("connection") == "close":
                    await stage.play(Close())
        except OSError:
            pass  # the client left: the reading side notes it
        except Exception as error:
            self._errors.append(error)
            await stage.play(Reset())


class Stage:
    """Plays steps on one connection; keeps the framing that the last head promised."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.ended = False
        self._writer = writer
        self._chunked = False
        self._until_close = False
        if writer.get_extra_info("ssl_object") is None:  # where asyncio then waits for ever
            # drain() then waits until the kernel has taken everything.
            writer.transport.set_write_buffer_limits(high=0)

    async def play(self, step: Step) -> None:
        """Play one step; raises OSError if the client has gone."""
        match step:
            case Head():
                await self._head(step)
            case Send(data):
                await self._send(data)
            case Raw(data):
                await self._write(data)
            case Split(data, sizes):
                for size in (*sizes, len(data)):
                    await self._send(data[:size])
                    data = data[size:]
            case Pause(event):
                await event.wait()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case End():
                await self._end()
            case Reset():
                self._linger_nothing()
                self._close()
            case Close():
                self._close()
            case Cut():
                self.ended = True
                self._writer.transport.abort()
            case Beneath(data):
                os.write(self._writer.get_extra_info("socket").fileno(), data)
            case _:
                raise TypeError(f"{step!r} is no step")

    async def _head(self, head: Head) -> None:
        headers = list(head.headers)
        names = {name.lower() for name, _ in headers}
        if head.chunked and "transfer-encoding" not in names:
            headers.append(("Transfer-Encoding", "chunked"))
        self._chunked = head.chunked
        self._until_close = not head.chunked and "content-length" not in names
        reason = _PHRASES.get(head.status, "Unnamed")
        lines = [f"HTTP/1.1 {head.status} {reason}", *(f"{k}: {v}" for k, v in headers), "", ""]
        await self._write("\r\n".join(lines).encode("latin-1"))

    async def _send(self, data: bytes) -> None:
        if self._chunked and data:  # an empty chunk would be the last
            data = b"%x\r\n%b\r\n" % (len(data), data)
        await self._write(data)

    async def _end(self) -> None:
        if self._chunked:
            await self._write(b"0\r\n\r\n")
        elif self._until_close:
            self._close()

    async def _write(self, data: bytes) -> None:
        if self._writer.transport.is_closing():  # where uvloop's takes nothing
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()
        # A client on this loop is called one pass after its socket turns readable: let
        # it read this much alone.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _linger_nothing(self) -> None:
        connection = self._writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _close(self) -> None:
        self.ended = True
        self._writer.transport.close()
