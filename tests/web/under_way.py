"""Requests that are under way, and clients that leave them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from proxy.web import server
from tests.gateway import HELLO, Gateway, until
from tests.scripted import End, Head, Pause, ScriptedUpstream, Send, Sleep, chat_stream, sse
from tests.web.raw import RawClient, chat_request, connected

HANG: Final = Sleep(60)
USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
#: Two tokens of either vocabulary.
WORD: Final = sse(
    {"choices": [{"index": 0, "delta": {"content": "Hello there"}, "finish_reason": None}]}
)
LEAVE: Final[dict[str, Callable[[RawClient], None]]] = {
    "FIN": lambda client: client.writer.close(),
    "RST": RawClient.reset,
}


async def key_of(gate: Gateway, **more: Any) -> str:
    return await gate.key("100 requests/day", "1M tokens/day", **more)


async def ask(gate: Gateway, key: str, body: Any = HELLO) -> int:
    """A request from its beginning until it is settled: its status."""
    async with gate.post(key, body) as answer:
        await answer.read()
        await gate.settled()
        return int(answer.status)


def halting(upstream: ScriptedUpstream) -> asyncio.Event:
    """Answer with a stream of USAGE, which goes on behind its first word when the event is set."""
    over = asyncio.Event()
    head, first, *rest = chat_stream(["one"], USAGE)
    upstream.script([head, first, Pause(over), *rest])
    return over


@asynccontextmanager
async def held(
    gate: Gateway, upstream: ScriptedUpstream, key: str, body: Any = HELLO
) -> AsyncIterator[Any]:
    """A stream that goes on for as long as the block, and is settled then: its answer."""
    over = asyncio.Event()
    upstream.script([Head(), Send(sse({"choices": []})), Pause(over), Send(sse("[DONE]")), End()])
    async with gate.post(key, body) as answer:
        yield answer
        over.set()
        await answer.read()
    await gate.settled()


@asynccontextmanager
async def under_way(
    url: str, upstream: ScriptedUpstream, key: str, body: Any = HELLO, *, begun: bool = False
) -> AsyncIterator[RawClient]:
    """A request that has come to its upstream, and of whose answer the client has had a first
    piece where it has `begun`.
    """
    async with connected(url) as client:
        await client.send(chat_request(key, body))
        await upstream.wait_requests(1)
        if begun:
            assert (await client.head()).status == 200
            assert await client.chunk()
        yield client


async def logged(gate: Gateway) -> None:
    """Wait until a request has been told of: its client has had its answer, or gone."""
    await until(lambda: bool(gate.log_lines()))


async def closed_within_a_second(upstream: ScriptedUpstream) -> None:
    async with asyncio.timeout(1):
        await upstream.wait_closed(1)


def tell_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have handlers learn of a client's leaving only when they write."""
    never = property(lambda _: False, lambda _, value: None)
    monkeypatch.setattr(server._Server, "handler_cancellation", never, raising=False)
