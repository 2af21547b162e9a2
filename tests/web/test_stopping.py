"""A worker that is told to stop, and what it is still waiting for."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import End, Head, ScriptedUpstream, Send
from tests.web.under_way import HANG, WORD, under_way
from tests.web.workers import Worker, make_key, serving


@pytest.mark.parametrize(("drain", "signals"), [("300ms", 1), ("60s", 2)], ids=["over", "hurried"])
async def test_a_stream_that_outlasts_the_drain(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path, drain: str, signals: int
) -> None:
    """When the drain is over, or a second signal comes, a stream ends as a failure, not cut
    short, is charged for what came, and the worker ends well.
    """
    upstream.script([Head(), Send(WORD), HANG, End()])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, drain) as worker,
        under_way(worker.url, upstream, key, begun=True) as client,
    ):
        worker.process.send_signal(signal.SIGTERM)
        if signals > 1:
            await worker.told("stopping")
            worker.process.send_signal(signal.SIGTERM)
        line = await worker.breaks_off(client)
        assert line["output_tokens"] == 2
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(key) == {"tokens": (line["input_tokens"] + 2, 0)}


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_has_not_begun(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path, stream: bool
) -> None:
    """Once the drain is over, no worker waits for the head of an answer; its client is told."""
    upstream.script([HANG, Head(), End()])
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
        await worker.ends_well()


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
    async with worker.post(session, key, stream=stream) as answer:
        return answer.status, await answer.read()
