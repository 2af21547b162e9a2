"""Clients of the official SDK that leave, and how soon their upstream is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai

from tests.chaos.provider import Order
from tests.chaos.stand import Key, Stand, percentile, show, until

SILENCE = 30.0  # seconds; longer than anybody here waits
WHEN = {"waiting": {"wait": SILENCE}, "in mid-stream": {"hold": True}}

#: Leaves once it may, and tells when that was (monotonic).
Leave = Callable[[Stand, Key, Order, bool], Awaitable[float]]


async def leaving(stand: Stand, transport: str, *, count: int, within: float) -> None:
    """So many clients leave in each way, while they wait for the first byte and after a word."""
    team = f"leaving-{transport}"
    (key,) = await stand.keys(team, 1)
    async with zygote(stand, key) as killed:
        ways: dict[str, Leave] = {"break and close": close, "aclose": aclose, "killed": killed}
        for when, how in WHEN.items():
            for name, leave in ways.items():
                tag = f"{when} {name}"
                orders = [Order(f"{tag} {n}", words=1000, **how) for n in range(count)]
                at = [await leave(stand, key, order, when == "waiting") for order in orders]
                left_at = await _left_at(stand, tag, orders)
                # The kernel may tell the upstream's process of it before it tells this one.
                left = [max(0.0, b - a) for a, b in zip(at, left_at, strict=True)]
                show(
                    f"{count} clients that leave {when}: {name}, {transport}",
                    upstream_left_after_p50_ms=percentile(left, 0.5) * 1000,
                    upstream_left_after_p99_ms=percentile(left, 0.99) * 1000,
                    upstream_left_after_max_ms=max(left) * 1000,
                )
                assert max(left) <= within
    await stand.free(team)
    stand.books.agree(team)
    charged = stand.books.charged(team)[key.id]
    asked = count * len(ways)
    # Each is one request; who had a word is charged that word.
    assert (charged.requests, charged.output) == (2 * asked, asked)


async def close(stand: Stand, key: Key, order: Order, waiting: bool) -> float:
    """Out of the loop, and the stream closed; who waits for it is cancelled."""
    async with _sdk(stand, key) as client:
        asking = asyncio.create_task(_ask(client, order))
        if waiting:
            await _asked(stand, order)
            at = time.monotonic()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            return at
        stream = await asking
        async for _ in stream:
            break
        at = time.monotonic()
        await stream.close()
        return at


async def aclose(stand: Stand, key: Key, order: Order, waiting: bool) -> float:
    """The whole client closed, under who waits or reads."""
    client = _sdk(stand, key)
    asking = asyncio.create_task(_ask(client, order))
    if waiting:
        await _asked(stand, order)
    else:
        await anext(aiter(await asking))
    at = time.monotonic()
    await client.close()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return at


@asynccontextmanager
async def zygote(stand: Stand, key: Key) -> AsyncIterator[Leave]:
    """A process that clients are forked from, to be killed."""
    command = (sys.executable, "-m", "tests.chaos.leaver", stand.urls()[0], key.secret)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    source, told = process.stdin, process.stdout
    assert source is not None
    assert told is not None

    async def killed(stand: Stand, key: Key, order: Order, waiting: bool) -> float:
        source.write(f"{order.user}\n".encode())
        pid = int(await told.readline())
        if waiting:
            await _asked(stand, order)
        else:
            assert int(await told.readline()) == pid
        dead = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        await _readable(dead)  # its memory goes before its connections do
        os.close(dead)
        return time.monotonic()

    try:
        yield killed
    finally:
        source.close()
        process.kill()
        await process.wait()


async def _readable(file: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(file, ready.set)
    await ready.wait()
    loop.remove_reader(file)


def _sdk(stand: Stand, key: Key) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stand.urls()[0]}/v1", api_key=key.secret, max_retries=0)


async def _ask(client: openai.AsyncOpenAI, order: Order) -> Any:
    return await client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Say it."}],
        max_tokens=1000,
        user=order.user,
        stream=True,
    )


async def _asked(stand: Stand, order: Order) -> None:
    """Wait until the provider has the request."""

    async def there() -> bool:
        return order.tag in await stand.provider.records(order.tag)

    await until(there, 10)


async def _left_at(stand: Stand, tag: str, orders: Sequence[Order]) -> list[float]:
    """When the provider was left by each (monotonic)."""
    found: list[float] = []

    async def gone() -> bool:
        records = await stand.provider.records(tag)
        found[:] = [at for order in orders if (at := records[order.tag].left_at) is not None]
        return len(found) == len(orders)

    await until(gone, 10)
    return found
