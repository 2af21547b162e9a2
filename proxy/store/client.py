"""The connection to Redis or Valkey, and the ledger's scripts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
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
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            "The gateway's store cannot be reached, so no budget can be checked. Try again.",
            headers={"retry-after": "1"},
        ) from error


class Store:
    """A pool of connections. Every method raises StoreUnavailable."""

    def __init__(self, redis: aioredis.Redis) -> None:
        # Its annotations answer for the synchronous client as well, and so fit neither.
        self.redis: Any = redis

    @classmethod
    def open(cls, url: str) -> Store:
        """A store at `redis://`, `rediss://` or `unix://`; connects when it is first used."""
        pool = aioredis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            health_check_interval=0,
        )
        return cls(aioredis.Redis.from_pool(pool))

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
            try:
                return await self.redis.evalsha(_sha(script), len(keys), *keys, *arguments)
            except NoScriptError:
                return await self.redis.eval(script_source(script), len(keys), *keys, *arguments)

    async def run_many(
        self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[Any]:
        """One script several times over in one round trip; the calls may share no fate."""
        if len(calls) == 1:
            keys, arguments = calls[0]
            return [await self.run(script, keys, *arguments)]
        async with translated():
            await self.redis.script_load(script_source(script))
            pipeline = self.redis.pipeline(transaction=False)
            for keys, arguments in calls:
                pipeline.evalsha(_sha(script), len(keys), *keys, *arguments)
            return list(await pipeline.execute())
