"""What a request that fails may leave behind: its charge, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream

FAST = {"connect": "300ms", "first_byte": "300ms", "idle": "300ms"}


def quick(
    store_url: str, upstream: ScriptedUpstream, transport: str = "direct"
) -> AbstractAsyncContextManager[Gateway]:
    """A gateway that waits for its upstream a little only."""
    provider = {"timeouts": FAST, "transport": transport}
    return open_gateway(store_url, upstream.url, providers={"openai": provider})


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
        return [*tasks, *range(busy(self.gate))]


def busy(gate: Gateway) -> int:
    """Connections to the upstream that a call is on."""
    direct, other = gate.door.upstreams["direct"], gate.door.upstreams["aiohttp"]
    assert isinstance(direct, DirectTransport)
    assert isinstance(other, AiohttpTransport)
    connector = other._session.connector
    assert connector is not None
    return direct.busy + len(connector._acquired)


async def open_books(gate: Gateway) -> Books:
    return Books(gate, await gate.key("100 requests/day", "1M tokens/day"))
