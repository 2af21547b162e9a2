"""A worker that is told to stop, and what it is still waiting for."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.scripted import End, Head, ScriptedUpstream, Send, Sleep, sse
from tests.web.raw import chat_request, connected, unchunked
from tests.web.test_lifecycle import Worker, ask, make_key, serving

WORD = sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello there"}}]})


async def test_a_second_signal_does_not_wait(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The second signal breaks streams off, each told and settled, and the worker ends well."""
    upstream.script([Head(), Send(WORD), Sleep(60), End()])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "60s") as worker,
        connected(worker.url) as client,
    ):
        await client.send(chat_request(key))
        assert (await client.head()).status == 200
        assert await client.chunk()
        worker.process.send_signal(signal.SIGTERM)
        await worker.told("stopping")
        worker.process.send_signal(signal.SIGTERM)
        (error,) = events(unchunked(await client.rest()))
        assert "shutting down" in error["error"]["message"]
        line = await worker.told("request")
        assert (line["ended"], line["output_tokens"]) == ("draining", 2)
        await worker.told("stopped")
        assert await asyncio.wait_for(worker.process.wait(), 5) == 0
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(key) == {"tokens": (line["input_tokens"] + 2, 0)}


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_has_not_begun(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path, stream: bool
) -> None:
    """Once the drain is over, no worker waits for the head of an answer; its client is told."""
    upstream.script([Sleep(60), Head(), End()])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "300ms") as worker,
        aiohttp.ClientSession() as session,
    ):
        asking = asyncio.create_task(answered(session, worker, key, stream))
        await upstream.wait_requests(1)
        worker.process.send_signal(signal.SIGTERM)
        status, body = await asking
        assert status == 503
        assert b"shutting down" in body
        line = await worker.told("request")
        reserved = 0 if stream else HELLO["max_tokens"]
        assert (line["ended"], line["output_tokens"]) == ("draining", reserved)
        await worker.told("stopped")
        assert await asyncio.wait_for(worker.process.wait(), 5) == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_comes_too_late(
    gateway: Gateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    """What comes to its upstream after the calls were ended is told so, and charged nothing."""
    key = await gateway.key("1 requests/day")
    gateway.door.end_calls()
    async with gateway.post(key, {**HELLO, "stream": stream}) as answer:
        assert answer.status == 503
        assert "shutting down" in await answer.text()
    assert not upstream.requests
    assert await gateway.used(key) == {"requests": (0, 0)}


async def answered(
    session: aiohttp.ClientSession, worker: Worker, key: str, stream: bool
) -> tuple[int, bytes]:
    async with ask(session, worker, key, stream=stream) as answer:
        return answer.status, await answer.read()
