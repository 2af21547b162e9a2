"""What a request that fails may leave behind: its charge, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream

FAST = {"connect": "300ms", "first_byte": "300ms", "idle": "300ms"}


def quick(store_url: str, upstream: ScriptedUpstream) -> AbstractAsyncContextManager[Gateway]:
    """A gateway that waits for its upstream a little only."""
    return open_gateway(store_url, upstream.url, providers={"openai": {"timeouts": FAST}})


class Books:
    """What one request may leave behind: its charge, and nothing else."""

    def __init__(self, gate: Gateway, key: str) -> None:
        self.gate = gate
        self.key = key
        self._tasks = asyncio.all_tasks()

    def post(self, body: Any = HELLO) -> Any:
        """Send a request on a connection of its own."""
        return self.gate.post(self.key, body, headers={"Connection": "close"})

    async def closed(self, *, requests: int, tokens: int) -> None:
        """Check the charge, that no reservation is left, and no task or connection either."""
        await self.gate.idle()
        await until(lambda: not self._left())
        assert await self.gate.used(self.key) == {"requests": (requests, 0), "tokens": (tokens, 0)}
        samples = await self.gate.metrics()
        assert samples["visiongate_streams_active"] == 0
        assert samples["visiongate_tokens_reserved"] == 0

    def _left(self) -> list[object]:
        """Tasks of the gateway's that were not there before, and calls to the upstream."""
        new = asyncio.all_tasks() - self._tasks
        tasks = [t for t in new if "ScriptedUpstream" not in repr(t.get_coro())]
        # An idle connection may wait for the next request; one in use is a leak.
        return [*tasks, *self.gate.door.upstream._session.connector._acquired]


async def open_books(gate: Gateway) -> Books:
    return Books(gate, await gate.key("100 requests/day", "1M tokens/day"))
