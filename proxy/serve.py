"""One worker: both listeners, from the first request to the last settlement."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from proxy import __version__, logs
from proxy.app import PATIENCE, OpenFetcher, admin_app, open_door, open_fetcher, public_app
from proxy.config import Config
from proxy.memory import keep_apart
from proxy.store.opening import StoreAccess
from proxy.web.door import Door
from proxy.web.server import Runner

#: Seconds after the drain, for what is broken off then to be told and settled.
_LAST_WORDS: Final = 2.0

#: SIGHUP comes from a terminal that was closed: there is no config to reload yet.
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Listening:
    """A gateway that serves: where, and its parts."""

    public: str
    admin: str
    door: Door


@asynccontextmanager
async def listening(
    config: Config,
    store_url: str,
    peppers: Sequence[str],
    *,
    log: logs.Log | None = None,
    patience: float = PATIENCE,
    open_fetcher: OpenFetcher = open_fetcher,
) -> AsyncIterator[Listening]:
    """The gateway on its two listeners.

    Raises OSError where a port is taken, StoreUnavailable or SchemaError.
    """
    drain = config.server.drain
    last = drain + _LAST_WORDS
    async with (
        open_door(
            config, store_url, peppers, log=log, patience=patience, open_fetcher=open_fetcher
        ) as door,
        _site(public_app(door, config), config.server.host, config.server.port, last) as public,
        _site(admin_app(door, config), config.admin.host, config.admin.port, 1.0) as admin,
    ):
        try:
            yield Listening(public, admin, door)
        finally:
            asyncio.get_running_loop().call_later(drain, door.end_calls)


@asynccontextmanager
async def _site(app: web.Application, host: str, port: int, shutdown: float) -> AsyncIterator[str]:
    running = Runner(app, shutdown=shutdown)
    await running.setup()
    try:
        site = web.TCPSite(running, host, port, backlog=1024)
        await site.start()
        taken = running.addresses[0][1]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
        yield f"http://{f'[{shown}]' if ':' in shown else shown}:{taken}"
    finally:
        await running.cleanup()


async def until_stopped(
    ready: Callable[[], None] | None = None, hurry: Callable[[], None] | None = None
) -> None:
    """Wait for SIGINT, SIGTERM or SIGHUP. The second one calls `hurry`; where there is none, and
    from the third, a signal is the system's.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def again() -> None:
        for number in _STOPS:
            loop.remove_signal_handler(number)
        if hurry is not None:
            hurry()

    for number in _STOPS:
        loop.add_signal_handler(number, stopped.set)
    if ready is not None:
        ready()
    await stopped.wait()
    if hurry is None:
        again()
        return
    for number in _STOPS:
        loop.add_signal_handler(number, again)


async def serve(config: Config, access: StoreAccess) -> None:
    """Serve until a signal comes, then finish what is under way."""
    log = logs.get()
    keep_apart()
    async with listening(config, access.url, access.peppers, log=log) as gate:
        log.info(
            "serving",
            public=gate.public,
            admin=gate.admin,
            store=config.store.address,
            config=config.fingerprint,
            version=__version__,
        )
        for warning in gate.door.warnings:
            log.warning("unsafe_store", warning=warning)
        gc.freeze()  # what is there now stays: collections need not look through it
        await until_stopped(hurry=gate.door.end_calls)
        log.info("stopping", streams=gate.door.ledger.live)
    log.info("stopped")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop."""
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main)
