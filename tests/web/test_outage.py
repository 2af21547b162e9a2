"""A whole gateway whose store goes away and comes back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from proxy import housekeeping
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import ScriptedUpstream, chat_stream
from tests.store.wire import Wire, open_wire

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ALLOW = {"on_failure": "allow", "grace": "10%"}


@asynccontextmanager
async def wired(
    store_url: str, upstream: ScriptedUpstream, **store: Any
) -> AsyncIterator[tuple[Wire, Gateway]]:
    async with (
        open_wire(store_url) as (wire, _),
        open_gateway(wire.url, upstream.url, store=store) as gate,
    ):
        yield wire, gate


async def ask(gate: Gateway, key: str, **changes: Any) -> tuple[int, dict[str, str], bytes]:
    async with gate.post(key, {**HELLO, **changes}) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, await answer.read()


async def ready(gate: Gateway) -> int:
    async with gate.session.get(f"{gate.admin}/readyz") as answer:
        return int(answer.status)


async def test_deny(store_url: str, upstream: ScriptedUpstream) -> None:
    """While the store is away nothing goes upstream; after it all is as before."""
    async with wired(store_url, upstream) as (wire, gate):
        key = await gate.key("1000 tokens/day")
        upstream.script(chat_stream(["one"], USAGE))
        assert (await ask(gate, key))[0] == 200
        await gate.settled()
        wire.cut()
        for _ in range(3):
            status, headers, body = await ask(gate, key)
            assert (status, headers["retry-after"]) == (503, "1")
            assert json.loads(body)["error"]["type"] == "server_error"
        assert await ready(gate) == 503
        assert (await gate.metrics())["visiongate_store_errors_total"] >= 3
        assert len(upstream.requests) == 1
        wire.mend()
        await until(lambda: not gate.door.store.away)
        upstream.script(chat_stream(["one"], USAGE))
        assert (await ask(gate, key))[0] == 200
        assert await ready(gate) == 200
        assert await gate.used(key) == {"tokens": (30, 0)}


async def test_a_gateway_that_nobody_asks(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells all the same that its store cannot be reached."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.02)
    async with wired(store_url, upstream) as (wire, gate):
        wire.cut()
        sample = gate.door.metrics.registry.get_sample_value
        await until(lambda: (sample("visiongate_store_errors_total") or 0) >= 3)


async def test_allow(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known key is served within its share, and what it used is charged afterwards."""
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.02)
    async with wired(store_url, upstream, **ALLOW) as (wire, gate):
        grace = gate.door.ledger._grace
        assert grace is not None
        await until(lambda: grace.open)
        key = await gate.key("1000 tokens/day", "3 requests/hour")
        other = await gate.key(name="new")
        upstream.script(chat_stream(["one"], USAGE))
        assert (await ask(gate, key))[0] == 200
        await gate.settled()
        wire.cut()
        upstream.script(chat_stream(["one"], USAGE))
        assert (await ask(gate, key))[0] == 200
        status, _, body = await ask(gate, key)
        assert status == 503
        assert b"used up" in body
        assert (await ask(gate, other))[0] == 503
        assert await ready(gate) == 200
        assert len(upstream.requests) == 2
        wire.mend()
        await gate.settled()
        assert await gate.used(key) == {"tokens": (30, 0), "requests": (2, 0)}
        metrics = await gate.metrics()
        tokens = [v for name, v in metrics.items() if name.startswith("visiongate_tokens_total")]
        assert sum(tokens) == 30


async def test_the_largest_overspend_is_announced(
    store_url: str, upstream: ScriptedUpstream
) -> None:
    """A gateway that may serve without its store says at its start how much that can be."""
    async with open_gateway(store_url, upstream.url) as gate:
        await gate.key(team_limits=("50 usd/month", "1M tokens/day"))
        await gate.key(team="search", team_limits=("30 usd/month",))
    async with open_gateway(store_url, upstream.url, store=ALLOW) as gate:
        (line,) = [line for line in gate.log_lines() if line["event"] == "grace"]
        assert line["most_over"] == {"tokens/day": 100_000, "usd/month": 8.0}
        assert (line["share"], line["workers"]) == ("0.1", 1)


async def test_a_store_that_is_full(store_url: str, upstream: ScriptedUpstream) -> None:
    """A store that takes no more is as good as none: nothing goes upstream, readiness is down."""
    async with open_gateway(store_url, upstream.url) as gate:
        key = await gate.key("1000 tokens/day")
        with redis.Redis.from_url(store_url) as client:
            client.config_set("maxmemory", 1)
            assert (await ask(gate, key))[0] == 503
            assert await ready(gate) == 503
            client.config_set("maxmemory", 0)
        assert await ready(gate) == 200
        upstream.script(chat_stream(["one"], USAGE))
        assert (await ask(gate, key))[0] == 200
        assert len(upstream.requests) == 1


async def test_a_stream_goes_on(store_url: str, upstream: ScriptedUpstream) -> None:
    """A stream under way does not notice that the store is away, and is charged late."""
    async with wired(store_url, upstream) as (wire, gate):
        key = await gate.key("1000 tokens/day")
        upstream.script(chat_stream(["one", "two"], USAGE))
        async with gate.post(key) as answer:
            wire.cut()
            body = await answer.read()
        assert body.endswith(b"data: [DONE]\n\n")
        await until(lambda: not gate.door.ledger.live)
        wire.mend()
        assert await gate.used(key) == {"tokens": (15, 0)}


async def test_two_workers_share_the_grace(store_url: str, upstream: ScriptedUpstream) -> None:
    """Each worker knows how many live, and one that stops is no longer counted."""
    async with open_gateway(store_url, upstream.url, store=ALLOW) as first:
        async with open_gateway(store_url, upstream.url, store=ALLOW) as second:
            (line,) = [line for line in second.log_lines() if line["event"] == "grace"]
            assert line["workers"] == 2
        with redis.Redis.from_url(store_url) as client:
            assert client.zcard("vg:workers") == 1
        (line,) = [line for line in first.log_lines() if line["event"] == "grace"]
        assert line["workers"] == 1


async def test_stores_do_not_share_a_journal(
    store_url: str, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Two stores behind one data directory keep their journals apart."""
    data = {"data": str(tmp_path)}
    async with open_gateway(store_url, upstream.url, store=data) as gate:
        first = gate.door.ledger._settlements._journal
    with redis.Redis.from_url(store_url) as client:
        client.flushall()
    async with open_gateway(store_url, upstream.url, store=data) as gate:
        second = gate.door.ledger._settlements._journal
    assert first is not None
    assert second is not None
    assert first._folder.parent == second._folder.parent
    assert first._folder != second._folder
