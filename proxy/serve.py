"""One worker: both listeners, from the first request to the last settlement."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from proxy import logs, mapped
from proxy.app import PATIENCE, OpenFetcher, admin_app, open_door, open_fetcher, public_app
from proxy.config import Config
from proxy.forked import LEAVES, LIVES
from proxy.generation import Generation
from proxy.listeners import BACKLOG, Listeners
from proxy.metrics import Metrics
from proxy.web.door import Door
from proxy.web.server import Runner, Site

#: Seconds after the drain, for what is broken off then to be told and settled.
_LAST_WORDS: Final = 2.0

_PULSE: Final = 1.0  # seconds

#: SIGHUP comes from a terminal that was closed.
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Listening:
    """A gateway that serves: where, and its parts. Its admin listener is the last to go, so that
    a drain is seen; where others are there for that, `operators` is closed before.
    """

    public: str
    admin: str
    door: Door
    operators: AsyncExitStack
    clients: Runner

    def cut(self) -> None:
        """End the connections of all clients, whatever they have yet to read or to send."""
        assert self.clients.server is not None
        for each in self.clients.server.connections:
            if each.transport is not None:
                each.transport.abort()


@asynccontextmanager
async def listening(
    config: Config,
    store_url: str,
    peppers: Sequence[str],
    *,
    log: logs.Log | None = None,
    listeners: Listeners | None = None,
    patience: float = PATIENCE,
    open_fetcher: OpenFetcher = open_fetcher,
) -> AsyncIterator[Listening]:
    """The gateway on its two listeners: on `listeners`, or on its own.

    Raises OSError where a port is taken, BadCertificate, StoreUnavailable or SchemaError.
    """
    drain = config.server.drain
    last = drain + _LAST_WORDS
    async with AsyncExitStack() as stack:
        door = await stack.enter_async_context(
            open_door(
                config, store_url, peppers, log=log, patience=patience, open_fetcher=open_fetcher
            )
        )
        here = stack.enter_context(contextlib.closing(listeners or Listeners.open(config)))
        operators = await stack.enter_async_context(AsyncExitStack())
        keep_alive = config.server.keep_alive
        admin = Runner(admin_app(door, config), shutdown=1.0, keep_alive=keep_alive)
        clients = Runner(public_app(door, config), shutdown=last, keep_alive=keep_alive)
        for site, running, sockets, tls in (
            (operators, admin, here.admin, here.admin_tls),
            (stack, clients, here.public, here.public_tls),
        ):
            await site.enter_async_context(_site(running, sockets, tls.context if tls else None))
        try:
            yield Listening(here.public_url, here.admin_url, door, operators, clients)
        finally:
            door.draining.set()
            asyncio.get_running_loop().call_later(drain, door.end_calls)


@asynccontextmanager
async def _site(
    running: Runner, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None
) -> AsyncIterator[None]:
    await running.setup()
    try:
        for each in sockets:
            await Site(running, each, backlog=BACKLOG, ssl_context=tls).start()
        yield
    finally:
        await running.cleanup()


async def until_stopped(ready: Callable[[], None]) -> None:
    """Wait for SIGINT, SIGTERM or SIGHUP; a second one is the system's."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in _STOPS:
        loop.add_signal_handler(number, stopped.set)
    ready()
    await stopped.wait()
    for number in _STOPS:
        loop.remove_signal_handler(number)


async def work(generation: Generation, master: socket.socket) -> None:
    """One worker of several, until it is told to stop, or the master is gone; then what is under
    way is finished. SIGQUIT breaks it off.
    """
    log = logs.get()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    config, access = generation.config, generation.access
    async with listening(
        config, access.url, access.peppers, log=log, listeners=generation.listeners
    ) as gate:
        metrics = gate.door.metrics
        pulse = loop.create_task(_live(gate, master, stopped))
        loop.add_signal_handler(signal.SIGQUIT, _break_off, gate, stopped)
        gc.freeze()  # what is there now stays: collections need not look through it
        await stopped.wait()
        log.info("draining", pid=os.getpid(), streams=gate.door.ledger.live)
        if not all_stop(master):
            await gate.operators.aclose()
    pulse.cancel()
    _told(metrics)


def _break_off(gate: Listening, stopped: asyncio.Event) -> None:
    stopped.set()
    gate.door.end_calls()
    asyncio.get_running_loop().call_later(_LAST_WORDS, gate.cut)


def all_stop(master: socket.socket) -> bool:
    """Tell the master that this worker stops; whether the whole gateway does: the master, which is
    there, has closed its end for writing. Else another takes this one's place, or has it already.
    """
    try:
        master.send(LEAVES, socket.MSG_DONTWAIT)
        return not master.recv(1, socket.MSG_DONTWAIT)
    except OSError:
        return False


async def _live(gate: Listening, master: socket.socket, stopped: asyncio.Event) -> None:
    """Each second, tell the metrics, and the master that this worker lives, or that it stops; where
    the master does not live it is `stopped`, since the next one wants the port.
    """
    full = False
    while True:
        was, full = full, not _told(gate.door.metrics)
        if full and not was:
            gate.door.metrics.alarms["metrics_unwritten",] += 1
            logs.get().error("metrics_unwritten")
        try:
            master.send(LEAVES if stopped.is_set() else LIVES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass  # it has much to read, when it comes to it
        except OSError:
            stopped.set()
            await gate.operators.aclose()
        await asyncio.sleep(_PULSE)


def _told(metrics: Metrics) -> bool:
    """Whether all series could be written."""
    with contextlib.suppress(OSError):
        metrics.tell()
        return not mapped.refused()
    return False


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop."""
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main)
