"""Several workers: what one of them, a signal or a new configuration does to the others."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from proxy.forked import pause_after
from proxy.store.embedded import EmbeddedValkey
from proxy.store.layout import SCHEMA, VERSION
from tests.gateway import events, open_gateway, until
from tests.scripted import Head, ScriptedUpstream, Send, chat_stream
from tests.store.processes import servers
from tests.web.under_way import HANG, USAGE, WORD, halting, under_way
from tests.web.workers import Worker, alive, halted, make_key, serving

TWO = 2
MODEL = {"targets": [{"provider": "openai"}], "price": {"input": 2, "output": 8}}


async def answered(worker: Worker, key: str, count: int = 1) -> None:
    """So many requests, each over a connection of its own."""
    for _ in range(count):
        async with aiohttp.ClientSession() as session, worker.post(session, key) as answer:
            assert answer.status == 200
            await answer.read()


async def total(worker: Worker, name: str) -> float:
    return sum(v for n, v in (await worker.metrics()).items() if n.partition("{")[0] == name)


async def until_total(worker: Worker, name: str, wanted: float) -> None:
    """Wait for what the workers tell each second."""
    async with asyncio.timeout(4):
        while await total(worker, f"visiongate_{name}") != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def key(store_url: str, upstream: ScriptedUpstream) -> str:
    """A key of 1M tokens a day; requests are answered with USAGE."""
    upstream.script(chat_stream(["one"], USAGE))
    return await make_key(store_url)


async def test_a_reload_lets_streams_end(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """After SIGHUP new requests have the new configuration, and a stream of before goes on."""
    async with halted(tmp_path, store_url, upstream, TWO) as streams:
        worker, (answer,) = streams.worker, streams.answers
        before = worker.pids
        worker.change({"models": {"gpt-4.1": MODEL}})
        await worker.serves("reloaded")
        assert not set(before) & set(worker.pids)
        streams.over.set()
        assert events(await answer.read())[-1] == "[DONE]"
        await until(lambda: not any(map(alive, before)))
        headers = {"Authorization": f"Bearer {streams.key}"}
        async with (
            aiohttp.ClientSession(worker.url, headers=headers) as session,
            session.get("/v1/models/gpt-4.1") as shown,
        ):
            assert shown.status == 200
        assert await total(worker, "visiongate_config_info") == 1
        assert await total(worker, "visiongate_workers") == TWO


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plans": {"default": {"limits": ["5 apples/day"]}}}, "plans.default.limits[0]"),
        ({"plans": {"default": {"limit": ["5 tokens/day"]}}}, "plans.default.limit"),
        ({"providers": {"openai": {"api_key": "${VISIONGATE_UNSET}"}}}, "VISIONGATE_UNSET"),
        ({"store": {"url": "unix:///nowhere/valkey.sock"}}, "the store at unix:///nowhere"),
        ("models: [", "expected"),
    ],
    ids=["a wrong value", "an unknown key", "an unset name", "no store", "no YAML"],
)
async def test_a_wrong_reload_is_refused(
    store_url: str,
    upstream: ScriptedUpstream,
    key: str,
    tmp_path: Path,
    changes: dict[str, Any] | str,
    words: str,
) -> None:
    """What is wrong at SIGHUP is logged and counted, and the workers serve on with what they
    had; what is right after it takes effect.
    """
    refused = 'visiongate_alarms_total{event="reload_refused"}'
    async with serving(tmp_path, store_url, upstream.url, "5s", TWO) as worker:
        before, right = await configs(worker), worker.config.read_text()
        worker.change(changes)
        assert words in (await worker.told("reload_refused"))["error"]
        await answered(worker, key)
        assert all(map(alive, worker.pids))
        assert (await configs(worker), (await worker.metrics())[refused]) == (before, 1)
        old = worker.pids
        worker.config.write_text(right)
        worker.change({"models": {"gpt-4.1": MODEL}})
        await worker.serves("reloaded")
        await until(lambda: not any(map(alive, old)))
        assert len(await configs(worker) | before) == 2


async def configs(worker: Worker) -> set[str]:
    """The configurations that are told to be in use."""
    return {n for n, v in (await worker.metrics()).items() if v and "config_info" in n}


async def test_a_newer_schema_is_refused(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path
) -> None:
    """Where a later release has taken over the store, this one does not begin anew on it."""
    async with serving(tmp_path, store_url, upstream.url, "5s") as worker:
        with redis.Redis.from_url(store_url) as store:
            store.set(SCHEMA, VERSION + 1)
            worker.change({})
            told = (await worker.told("reload_refused"))["error"]
            store.set(SCHEMA, VERSION)
        assert f"schema version {VERSION + 1}" in told
        await answered(worker, key)


async def test_all_workers_name_the_same_keys(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path
) -> None:
    """A key that has no name with one worker, since too many others have one, has none with
    another that met it first.
    """
    other = await make_key(store_url, "other-team")
    async with serving(tmp_path, store_url, upstream.url, "5s", TWO) as worker:
        worker.change({"metrics": {"max_keys": 1}})
        await worker.serves("reloaded")
        for asked, idle in zip((key, other), worker.pids, strict=True):
            os.kill(idle, signal.SIGSTOP)
            await answered(worker, asked)
            os.kill(idle, signal.SIGCONT)
        await until_total(worker, "requests_total", 2)
        found = [n for n in await worker.metrics() if n.startswith("visiongate_requests_total")]
        assert sorted(n.split('key="')[1].partition('"')[0] for n in found) == ["ci", "other"]


async def test_every_worker_drains(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A terminal's Ctrl-C reaches every process, and still lets all streams end: once each."""
    async with halted(tmp_path, store_url, upstream, TWO, streams=4) as streams:
        worker = streams.worker
        os.killpg(worker.process.pid, signal.SIGINT)
        for _ in worker.pids:
            await worker.told("draining")
        streams.over.set()
        for answer in streams.answers:
            assert events(await answer.read())[-1] == "[DONE]"
        await worker.ends_well()
    async with open_gateway(store_url, upstream.url) as another:
        assert await another.used(streams.key) == {"tokens": (4 * 15, 0)}


async def test_a_killed_worker_is_replaced(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Another takes its place, and what it had reserved is free once its lease is over."""
    upstream.script([Head(), Send(WORD), HANG])
    key = await make_key(store_url)
    async with (
        serving(tmp_path, store_url, upstream.url, "5s") as worker,
        under_way(worker.url, upstream, key, begun=True),
    ):
        (pid,) = worker.pids
        worker.process.send_signal(signal.SIGSTOP)  # nobody takes its place yet
        os.kill(pid, signal.SIGKILL)
        with redis.Redis.from_url(store_url) as store:
            (reservation,) = store.zrange("vg:{vision}:leases", 0, -1)
            store.zadd("vg:{vision}:leases", {reservation: 1})
            worker.process.send_signal(signal.SIGCONT)
            assert (await worker.told("worker_died"))["exit_code"] == -signal.SIGKILL
            await until(lambda: not store.zcard("vg:{vision}:leases"))
        upstream.script(chat_stream(["one"], USAGE))
        await answered(worker, key)


@pytest.mark.parametrize("then", [None, signal.SIGHUP, signal.SIGTERM])
async def test_a_worker_that_is_told_to_stop(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path, then: signal.Signals | None
) -> None:
    """Another serves at once in its place; its streams end in peace, whatever the master is told
    meanwhile, and so does it, without alarm.
    """
    async with halted(tmp_path, store_url, upstream) as streams, aiohttp.ClientSession() as session:
        worker, (pid,) = streams.worker, streams.worker.pids
        os.kill(pid, signal.SIGTERM)
        await worker.told("draining")
        await until_total(worker, "workers", 2)
        later = await worker.post(session, streams.key)
        await later.content.readany()
        if then:
            worker.process.send_signal(then)
            await (worker.serves("reloaded") if then == signal.SIGHUP else worker.told("stopping"))
        assert alive(pid)
        streams.over.set()
        for answer in (*streams.answers, later):
            assert events(await answer.read())[-1] == "[DONE]"
        await until(lambda: not alive(pid))
        if then != signal.SIGTERM:
            await until_total(worker, "workers", 1)
            assert await total(worker, "visiongate_alarms_total") == 0
            worker.process.send_signal(signal.SIGTERM)
        await worker.ends_well()


async def test_the_sums_are_those_of_all_workers(
    store_url: str, upstream: ScriptedUpstream, key: str, tmp_path: Path
) -> None:
    """Any worker shows what all have counted, also those that have died since; what is now,
    such as open streams, is of those that live.
    """
    async with serving(tmp_path, store_url, upstream.url, "5s", TWO) as worker:
        await answered(worker, key, 8)
        upstream.script([Head(), Send(WORD), HANG])
        async with under_way(worker.url, upstream, key, begun=True):
            await until_total(worker, "streams_active", 1)
            await until_total(worker, "requests_total", 8)
            await until_total(worker, "request_seconds_count", 8)
            for pid in worker.pids:
                os.kill(pid, signal.SIGKILL)
                await worker.told("worker_died")
        await until_total(worker, "workers", TWO)
        assert await total(worker, "visiongate_requests_total") == 8
        assert await total(worker, "visiongate_tokens_total") == 8 * 15
        assert await total(worker, "visiongate_request_seconds_count") == 8
        assert await total(worker, "visiongate_streams_active") == 0


async def test_workers_do_not_outlive_their_master(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Where the master is killed, its workers finish what they are at and end."""
    async with serving(tmp_path, store_url, upstream.url, "5s", TWO) as worker:
        worker.process.kill()
        await until(lambda: not any(map(alive, worker.pids)))


def test_workers_that_die_at_once() -> None:
    """The first that dies soon is replaced at once, each further one later, within a bound."""
    assert [pause_after(failures) for failures in range(8)] == [0, 0, 0.25, 0.5, 1, 2, 4, 5]


async def test_the_embedded_store_outlives_the_last_worker(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """It is started once, and stops when the last worker has settled."""
    over = halting(upstream)
    data = tmp_path / "var"
    with EmbeddedValkey(data) as valkey:
        key = await make_key(valkey.url)
    async with (
        serving(tmp_path, "embedded", upstream.url, "5s", TWO) as worker,
        under_way(worker.url, upstream, key, begun=True) as client,
    ):
        assert len(servers(data)) == 1
        worker.process.send_signal(signal.SIGTERM)
        await worker.told("draining")
        over.set()
        await client.rest()
        await worker.ends_well()
    assert not servers(data)
    with EmbeddedValkey(data) as valkey:
        async with open_gateway(valkey.url, upstream.url) as another:
            assert await another.used(key) == {"tokens": (15, 0)}
