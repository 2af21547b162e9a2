"""A worker's life: it drains on a signal, and tells when its store is away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from proxy.domain.limits import parse_limit
from proxy.store.client import Store
from proxy.store.directory import Directory
from tests.gateway import CONFIG, HELLO, PEPPER, Gateway, events, merged, open_gateway
from tests.scripted import Close, End, Head, Pause, ScriptedUpstream, Send, Sleep, chat_stream, sse
from tests.valkey import run_valkey
from tests.web.raw import chat_request, connected, unchunked
from tests.web.refusals import refused

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
WORD = sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hello there"}}]})
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


class Worker:
    """`python -m proxy serve` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def told(self, event: str) -> dict[str, Any]:
        """The next line of the log that tells of `event`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            while True:
                text = await self.process.stdout.readline()
                assert text, f"the log ended before {event!r}"
                line: dict[str, Any] = json.loads(text)
                if line["event"] == event:
                    return line


@asynccontextmanager
async def serving(folder: Path, store_url: str, upstream: str, drain: str) -> AsyncIterator[Worker]:
    given = {
        "store": {"url": store_url},
        "keys": {"pepper": PEPPER},
        "providers": {"openai": {"base_url": upstream}},
        "server": {"drain": drain},
    }
    config = folder / "visiongate.yaml"
    config.write_text(yaml.safe_dump(merged(CONFIG, given)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "-c", str(config)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
    )
    worker = Worker(process)
    try:
        worker.url = (await worker.told("serving"))["public"]
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def make_key(store_url: str) -> str:
    store = Store.open(store_url)
    try:
        directory = Directory(store, (PEPPER,))
        await directory.create_team("vision")
        limits = (parse_limit("1M tokens/day"),)
        return (await directory.create_key("vision", "ci", limits=limits)).secret
    finally:
        await store.close()


def ask(session: aiohttp.ClientSession, worker: Worker, key: str, **changes: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    body = {**HELLO, **changes}
    return session.post(f"{worker.url}/v1/chat/completions", json=body, headers=headers)


async def test_a_signal_lets_a_stream_end(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """After SIGTERM nobody new is let in, the stream goes on to its end, and is settled."""
    over = asyncio.Event()
    head, first, *rest = chat_stream(["one"], USAGE)
    upstream.script([head, first, Pause(over), *rest])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "5s") as worker,
        aiohttp.ClientSession() as session,
    ):
        async with ask(session, worker, key) as answer:
            await answer.content.readany()
            worker.process.send_signal(signal.SIGTERM)
            await worker.told("stopping")
            await closed(worker.url)
            over.set()
            body = await answer.read()
        assert events(body)[-1] == "[DONE]"
        line = await worker.told("request")
        assert (line["ended"], line["input_tokens"], line["output_tokens"]) == ("complete", 12, 3)
        await worker.told("stopped")
        assert await asyncio.wait_for(worker.process.wait(), 5) == 0
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(key) == {"tokens": (15, 0)}


async def closed(url: str) -> None:
    """Wait until nobody listens there."""
    async with asyncio.timeout(4):
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.get(url + "/healthz"):
                    await asyncio.sleep(0.001)
            except aiohttp.ClientConnectionError:
                return


async def test_a_stream_that_outlasts_the_drain_is_broken_off(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A stream that is still under way when the drain is over ends as a failure, not cut short."""
    upstream.script([Head(), Send(WORD), Sleep(60), End()])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "300ms") as worker,
        connected(worker.url) as client,
    ):
        await client.send(chat_request(key))
        assert (await client.head()).status == 200
        assert await client.chunk()
        worker.process.send_signal(signal.SIGTERM)
        (error,) = events(unchunked(await client.rest()))
        assert error["error"]["type"] == "server_error"
        assert "shutting down" in error["error"]["message"]
        line = await worker.told("request")
        assert (line["ended"], line["output_tokens"]) == ("draining", 2)
        await worker.told("stopped")
        assert await asyncio.wait_for(worker.process.wait(), 5) == 0
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(key) == {"tokens": (line["input_tokens"] + 2, 0)}


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
