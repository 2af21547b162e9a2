"""What a request holds while its answer comes."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.gateway import HELLO, Gateway
from tests.scripted import End, Head, Pause, ScriptedUpstream, Send, sse

SIZE = 900_000
WORD = sse({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def held() -> int:
    """Bytes that the gateway's own code has allocated and not let go."""
    ours = tracemalloc.Filter(True, "*/proxy/*")
    found = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(trace.size for trace in found.traces)


@pytest.mark.usefixtures("traced")
async def test_a_body_is_not_held_for_its_answer(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Once its answer has begun, nothing of a request's body is in memory."""
    over = asyncio.Event()
    upstream.script([Head(), Send(sse("[DONE]")), End()])
    upstream.script([Head(), Send(WORD), Pause(over), Send(sse("[DONE]")), End()])
    message = {"role": "user", "content": "x " * (SIZE // 2)}
    body = json.dumps({**HELLO, "messages": [message]}).encode()
    key = await gateway.key()
    async with gateway.post(key) as answer:  # what is made once is there
        await answer.read()
    before = held()
    async with gateway.post(key, body) as answer:
        await answer.content.readany()
        assert held() - before < SIZE // 10
        over.set()
        await answer.read()


@pytest.mark.usefixtures("traced")
async def test_a_refused_body_is_let_go(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Of a request that is refused nothing waits for the garbage collector."""
    key = await gateway.key()
    picture = "data:image/png;base64," + "A" * SIZE  # is none
    parts = [{"type": "image_url", "image_url": {"url": picture}}]
    refused = json.dumps({**HELLO, "messages": [{"role": "user", "content": parts}]}).encode()
    gc.disable()
    try:
        for body, status in ((refused, 400), (b'{"messages": "' + b"x" * SIZE + b'"}', 400)):
            async with gateway.post(key, body) as answer:
                assert answer.status == status
            before = held()
            for _ in range(3):
                async with gateway.post(key, body) as answer:
                    await answer.read()
            assert held() - before < SIZE // 10
    finally:
        gc.enable()
    assert not upstream.requests
