"""A worker that is told to stop, and what it is still waiting for."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from proxy import serve
from proxy.domain.errors import GatewayError
from proxy.forked import LEAVES
from proxy.metrics import Metrics
from proxy.serve import all_stop
from tests.gateway import HELLO, Gateway, events, open_gateway, until
from tests.scripted import End, Head, ScriptedUpstream, Send, chat_stream, sse
from tests.web.raw import chat_request, connected
from tests.web.under_way import HANG, WORD, under_way
from tests.web.workers import Worker, alive, halted, make_key, serving


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


async def test_a_client_that_holds_up_the_end(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """After a second signal nobody is waited for who has yet to send the rest of a body."""
    request = chat_request(await make_key(store_url), HELLO, expect="100-continue")
    async with (
        serving(tmp_path, store_url, upstream.url, "60s") as worker,
        connected(worker.url) as client,
    ):
        await client.send(request[:-1])
        assert (await client.head()).status == 100
        worker.process.send_signal(signal.SIGTERM)
        await worker.told("stopping")
        worker.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await worker.process.wait() == 0


async def test_a_body_that_is_still_coming(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A worker that stops takes the rest of a body that has begun to come, and answers it."""
    upstream.script(chat_stream(["Hello"]))
    body = {**HELLO, "messages": [{"role": "user", "content": "long " * 40_000}]}
    request = chat_request(await make_key(store_url), body, expect="100-continue")
    async with serving(tmp_path, store_url, upstream.url, "20s") as worker:
        async with connected(worker.url) as client, connected(worker.url) as idle:
            await client.send(request[: len(request) // 2])
            assert (await client.head()).status == 100
            worker.process.send_signal(signal.SIGTERM)
            assert await idle.rest() == b""  # so all connections have been told
            await client.send(request[len(request) // 2 :])
            assert (await client.head()).status == 200
            assert (await client.chunks())[-1].endswith(sse("[DONE]"))
        await worker.ends_well()
    (asked,) = upstream.requests
    assert asked.json()["messages"] == body["messages"]


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


async def test_a_drain_is_seen(store_url: str, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Until the last stream has ended operators see the metrics, and that nobody is to be sent."""
    async with halted(tmp_path, store_url, upstream, workers=2) as streams:
        worker, (answer,) = streams.worker, streams.answers
        worker.process.send_signal(signal.SIGTERM)
        await until(lambda: sum(map(alive, worker.pids)) == 1)
        assert (await worker.metrics())["visiongate_streams_active"] == 1
        async with aiohttp.ClientSession(worker.admin) as session:
            for path, status in (("/readyz", 503), ("/healthz", 200)):
                async with session.get(path) as shown:
                    assert shown.status == status
            with pytest.raises(aiohttp.ClientConnectorError):
                await answered(session, worker, streams.key, True)
        streams.over.set()
        assert events(await answer.read())[-1] == "[DONE]"
        await worker.ends_well()


def test_who_stops() -> None:
    """A worker tells a stop of all from its own, and from a master that is gone; it tells the
    master of its own.
    """
    ours, its = socket.socketpair()
    with ours, its:
        told = [all_stop(its)]
        assert ours.recv(2) == LEAVES
        ours.shutdown(socket.SHUT_WR)
        told.append(all_stop(its))
        ours.close()
        told.append(all_stop(its))
    assert told == [False, True, False]


async def test_a_master_that_could_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops tells its master again each second."""
    monkeypatch.setattr(serve, "_PULSE", 0.001)
    gate: Any = SimpleNamespace(door=SimpleNamespace(metrics=Metrics()))
    stopped = asyncio.Event()
    stopped.set()
    ours, its = socket.socketpair()
    with ours, its:
        ours.setblocking(False)
        pulse = asyncio.create_task(serve._live(gate, its, stopped))
        for _ in range(2):
            async with asyncio.timeout(4):
                assert await asyncio.get_running_loop().sock_recv(ours, 1) == LEAVES
        pulse.cancel()


async def test_a_call_that_cannot_be_ended(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """It is told of, and all the others end."""

    class Stuck:
        def abort(self, reason: GatewayError) -> None:
            raise RuntimeError("its words")

    upstream.script([HANG])
    for _ in range(4):  # so that some of them come first, whatever the order
        gateway.door.calls.add(Stuck())
    async with under_way(gateway.url, upstream, await gateway.key()) as client:
        gateway.door.end_calls()
        assert (await client.head()).status == 503
    told = [x for x in gateway.log_lines() if x["event"] == "unexpected"]
    assert [x["error"] for x in told] == ["RuntimeError"] * 4
    assert "its words" not in gateway.log.getvalue()


async def answered(
    session: aiohttp.ClientSession, worker: Worker, key: str, stream: bool
) -> tuple[int, bytes]:
    async with worker.post(session, key, stream=stream) as answer:
        return answer.status, await answer.read()
