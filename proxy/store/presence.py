"""Who is there: which store this is, and how many workers it has heard of."""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

from proxy.domain.errors import StoreUnavailable
from proxy.store.client import Store
from proxy.store.layout import IDENTITY, WORKERS

_SILENCE: Final = 30_000  # ms


async def identity(store: Store) -> str:
    """A name that this store keeps, whatever its address; made when it is new."""
    await store.ask(IDENTITY, "SET", IDENTITY, secrets.token_hex(6), "NX")
    found: bytes | None = await store.ask(IDENTITY, "GET", IDENTITY)
    return (found or b"").decode()


class Heartbeat:
    """This worker's. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._id = secrets.token_hex(8)

    async def beat(self) -> int:
        """Say that this worker lives; how many do, this one with them."""
        return int(await self._store.run("alive", (WORKERS,), self._id, _SILENCE))

    async def stop(self) -> None:
        """Say that it does no longer, if that can be said."""
        with contextlib.suppress(StoreUnavailable):
            await self._store.run("alive", (WORKERS,), self._id, 0)
