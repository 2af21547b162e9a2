"""The connection to Redis or Valkey, and the ledger's scripts."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from importlib import resources
from typing import Any, Final

import redis.asyncio as aioredis
from redis.exceptions import NoScriptError, RedisError

from proxy.domain.errors import StoreUnavailable
from proxy.store.layout import SCHEMA, VERSION

_CONNECTIONS: Final = 64
_TIMEOUT: Final = 5.0  # seconds for one command
_CONNECT_TIMEOUT: Final = 2.0
_CANCEL_AGAIN: Final = 0.1

Argument = str | bytes | int


class SchemaError(RuntimeError):
    """The store was written by a newer release."""


@cache
def script_source(name: str) -> str:
    """A script with the shared part put behind its first line."""
    folder = resources.files("proxy.store") / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text().partition("\n")
    return f"{shebang}\n{(folder / 'common.lua').read_text()}\n{body}"


@cache
def _sha(name: str) -> str:
    return hashlib.sha1(script_source(name).encode(), usedforsecurity=False).hexdigest()


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis' own errors as StoreUnavailable, told without the address."""
    task = asyncio.current_task()
    cancelling = task.cancelling() if task else 0
    try:
        yield
        # The client waits by asyncio.wait_for, which before Python 3.12 may swallow these.
        if task and task.cancelling() > cancelling:
            raise asyncio.CancelledError
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            "The gateway's store cannot be reached, so no budget can be checked. Try again.",
            headers={"retry-after": "1"},
        ) from error


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks that use the store, and wait until they are over.

    Once is not enough: the client may turn a cancellation into an error of its own.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN)
    await asyncio.gather(*tasks, return_exceptions=True)


#: Told of every call of a script: its name, and the seconds until it was answered or failed.
ScriptObserver = Callable[[str, float], None]


def _unobserved(script: str, seconds: float) -> None:
    return


class Store:
    """A pool of connections. Every method raises StoreUnavailable."""

    def __init__(self, redis: aioredis.Redis, observe: ScriptObserver = _unobserved) -> None:
        # Its annotations answer for the synchronous client as well, and so fit neither.
        self.redis: Any = redis
        self._observe = observe

    @classmethod
    def open(cls, url: str, observe: ScriptObserver = _unobserved) -> Store:
        """A store at `redis://`, `rediss://` or `unix://`; connects when it is first used."""
        pool = aioredis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            health_check_interval=0,
        )
        return cls(aioredis.Redis.from_pool(pool), observe)

    async def close(self) -> None:
        await self.redis.aclose()

    async def ping(self) -> None:
        async with translated():
            await self.redis.execute_command("PING")

    async def check_schema(self) -> None:
        """Mark a new store, and raise SchemaError for one of a newer release."""
        async with translated():
            await self.redis.set(SCHEMA, VERSION, nx=True)
            found = int(await self.redis.get(SCHEMA) or VERSION)
        if found > VERSION:
            raise SchemaError(
                f"the store has schema version {found}, and this release knows {VERSION}: "
                "use the release that wrote it, or a newer one"
            )

    async def run(self, script: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """One script, loaded when the store does not have it."""
        async with translated():
            with self._timed(script):
                try:
                    return await self.redis.evalsha(_sha(script), len(keys), *keys, *arguments)
                except NoScriptError:
                    source = script_source(script)
                    return await self.redis.eval(source, len(keys), *keys, *arguments)

    async def run_many(
        self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[Any]:
        """One script several times over in one round trip.

        The calls share no fate: in the place of one that failed stands its StoreUnavailable.
        """
        async with translated():
            with self._timed(script):
                pipeline = self.redis.pipeline(transaction=False)
                for keys, arguments in calls:
                    pipeline.evalsha(_sha(script), len(keys), *keys, *arguments)
                results = list(await pipeline.execute(raise_on_error=False))
        for index, (keys, arguments) in enumerate(calls):
            if isinstance(results[index], RedisError):
                try:
                    results[index] = await self.run(script, keys, *arguments)
                except StoreUnavailable as error:
                    results[index] = error
        return results

    @contextmanager
    def _timed(self, script: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._observe(script, time.perf_counter() - begun)
