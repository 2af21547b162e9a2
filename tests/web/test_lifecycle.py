"""A worker's life: it drains on a signal, and tells when its store is away."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from proxy.store.client import Store
from tests.gateway import Gateway, events, open_gateway
from tests.scripted import Close, Head, ScriptedUpstream, Send, chat_stream
from tests.valkey import run_valkey
from tests.web.raw import chat_request, connected
from tests.web.refusals import refused
from tests.web.under_way import USAGE, WORD
from tests.web.workers import halted, make_key, serving

UNAVAILABLE = (503, "server_error", None)


async def test_health_and_readiness(gateway: Gateway) -> None:
    """With its store at hand a gateway is alive on both listeners, and ready."""
    for url in (gateway.url + "/healthz", gateway.admin + "/healthz", gateway.admin + "/readyz"):
        async with gateway.session.get(url) as answer:
            assert answer.status == 200, url
            assert (await answer.json())["status"] in ("ok", "ready")


@pytest.mark.parametrize("known", [True, False], ids=["known key", "unknown key"])
async def test_the_store_goes_away(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Without its store a gateway is alive, not ready, and refuses with a time to come again."""
    monkeypatch.setattr("proxy.app._SETTLE_DEADLINE", 0.1)  # nobody will take what is left
    monkeypatch.setattr("proxy.housekeeping._LOOK_EVERY", 3600)  # its misses are counted as well
    upstream.script(chat_stream(["Hi"], USAGE))
    async with AsyncExitStack() as stack:
        with run_valkey(tmp_path) as url:
            gate = await stack.enter_async_context(open_gateway(url, upstream.url))
            key = await gate.key()
            if known:
                async with gate.post(key) as answer:
                    await answer.read()
                await gate.settled()
        async with gate.session.get(gate.admin + "/readyz") as answer:
            assert answer.status == 503
            assert "store" in (await answer.json())["status"]
        async with gate.session.get(gate.url + "/healthz") as answer:
            assert answer.status == 200
        async with gate.post(key) as answer:
            assert answer.headers["retry-after"] == "1"
        error = await refused(gate.post(key), UNAVAILABLE)
        assert url not in error["message"]
        samples = await gate.metrics()
        assert samples["visiongate_store_errors_total"] == 2
        assert len(upstream.requests) == known


async def test_no_cancellation_is_lost_in_the_store(store_url: str) -> None:
    """Whenever a task that talks to the store is cancelled, it ends, or was done before."""
    store = Store.open(store_url)
    await store.ping()
    for turns in range(12):
        task = asyncio.create_task(store.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == asked, turns
    await store.close()


async def test_a_signal_lets_a_stream_end(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """After SIGTERM nobody new is let in, the stream goes on to its end, and is settled."""
    async with halted(tmp_path, store_url, upstream) as streams:
        worker, (answer,) = streams.worker, streams.answers
        worker.process.send_signal(signal.SIGTERM)
        await worker.told("stopping")
        await closed(worker.url)
        streams.over.set()
        body = await answer.read()
        assert events(body)[-1] == "[DONE]"
        line = await worker.told("request")
        assert (line["ended"], line["input_tokens"], line["output_tokens"]) == ("complete", 12, 3)
        await worker.ends_well()
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(streams.key) == {"tokens": (15, 0)}


async def closed(url: str) -> None:
    """Wait until nobody listens there."""
    async with asyncio.timeout(4):
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.get(url + "/healthz"):
                    await asyncio.sleep(0.001)
            except aiohttp.ClientConnectionError:
                return


async def test_http_1_0_is_reset_on_the_real_loop_too(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """The server's own event loop resets a broken body without chunks as well."""
    upstream.script([Head(), Send(WORD), Close()])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "300ms") as worker,
        connected(worker.url) as client,
    ):
        await client.send(chat_request(key, version="1.0"))
        assert (await client.head()).status == 200
        with pytest.raises(ConnectionResetError):
            await client.rest()
