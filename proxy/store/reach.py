"""How a server is reached, and for how long it is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from proxy.domain.errors import StoreUnavailable

AT_ONCE: Final = 32  # works that need a connection of their own; the others wait their turn
_CONNECTIONS: Final = AT_ONCE + 8  # some listen


@dataclass(frozen=True, slots=True)
class Patience:
    """`command`: seconds for one, connecting included. With `probing`, silence for so long is
    looked into; without, what failed has failed.
    """

    command: float
    probing: bool


#: A request is refused within 500 ms: a command, the look whether the server is there, and words.
GATEWAY: Final = Patience(0.25, probing=True)
#: Commands of a person, who would rather wait.
PATIENT: Final = Patience(5.0, probing=False)


@dataclass(slots=True)
class Resent:
    """How many commands a store was sent again: the first of each may yet arrive."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Away:
    """Since when (monotonic seconds) a server does not answer, and what came instead."""

    since: float
    cause: BaseException


def unavailable(cause: BaseException | None) -> StoreUnavailable:
    """What a client is told: nothing of the address or of the server's words."""
    error = StoreUnavailable(
        "The gateway's store cannot be reached, so no budget can be checked. Try again.",
        headers={"retry-after": "1"},
    )
    error.__cause__ = cause
    return error


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Redis' own errors as StoreUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


def connect(url: str) -> aioredis.Redis:
    """A client at `redis://`, `rediss://` or `unix://`; connects when it is first used.

    It has no deadlines and tries once: both are Node's. Raises ValueError for a URL with
    options that it does not understand.
    """
    pool: Any = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        pool.make_connection()
    except TypeError:
        raise ValueError("it has an option that is not known") from None
    return aioredis.Redis.from_pool(pool)
