"""`on_client_gone: drain`: a stream whose client has gone is read to its end, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from proxy.web import relay
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import Head, Pause, Reset, ScriptedUpstream, Send, Step, chat_stream, sse
from tests.web.raw import chat_request, connected
from tests.web.under_way import (
    HANG,
    LEAVE,
    USAGE,
    WORD,
    closed_within_a_second,
    key_of,
    logged,
    tell_no_handler,
    under_way,
)

PLANS: dict[str, Any] = {"default": {"on_client_gone": "drain"}, "other": {}}
GONE = 'visiongate_streams_ended_total{reason="client_gone"}'
FILLER = sse({"choices": [{"index": 0, "delta": {"content": "x" * 60_000}}]})


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    async with open_gateway(store_url, upstream.url, plans=PLANS) as opened:
        yield opened


@pytest.mark.parametrize("how", LEAVE)
async def test_leaving_in_mid_stream(gate: Gateway, upstream: ScriptedUpstream, how: str) -> None:
    """A stream is read on after its client has left, reserved until then and charged exactly."""
    left = asyncio.Event()
    head, first, *rest = chat_stream(["Hel", "lo"], USAGE)
    upstream.script([head, first, Pause(left), *rest])
    key = await key_of(gate)
    async with under_way(gate.url, upstream, key, begun=True) as client:
        LEAVE[how](client)
        await logged(gate)
    assert (await gate.used(key))["tokens"][1] > 0
    left.set()
    line = await gate.request_line()
    assert (line["status"], line["ended"]) == (499, "client_gone")
    assert await gate.used(key) == {"requests": (1, 0), "tokens": (15, 0)}
    assert not upstream.closed_at
    samples = await gate.metrics()
    assert (samples[GONE], samples["visiongate_streams_active"]) == (1, 0)
    whose = 'key="ci",kind="output",model="gpt-4o",source="upstream",team="vision"'
    assert samples["visiongate_tokens_total{" + whose + "}"] == 3


@pytest.mark.parametrize("heads", [0, 1], ids=["before the head", "after it"])
async def test_leaving_before_the_first_byte(
    gate: Gateway, upstream: ScriptedUpstream, heads: int
) -> None:
    """A client that leaves while it waits is charged exactly too."""
    left = asyncio.Event()
    steps = chat_stream(["Hello"], USAGE)
    upstream.script([*steps[:heads], Pause(left), *steps[heads:]])
    key = await key_of(gate)
    async with under_way(gate.url, upstream, key) as client:
        client.reset()
        await logged(gate)
    left.set()
    assert (await gate.request_line())["status"] == 499
    assert await gate.used(key) == {"requests": (1, 0), "tokens": (15, 0)}


async def test_a_failure_that_nobody_waits_for(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """What fails before its first byte is refunded, whether or not anybody is told."""
    left = asyncio.Event()
    upstream.script([Pause(left), Reset()])
    key = await key_of(gate)
    async with under_way(gate.url, upstream, key) as client:
        client.reset()
        await logged(gate)
    left.set()
    await gate.idle()
    assert await gate.used(key) == {"requests": (1, 0), "tokens": (0, 0)}


@pytest.mark.parametrize(
    ("steps", "output"),
    [([], 0), ([Head(), Send(WORD)], 2)],
    ids=["before the head", "in mid-stream"],
)
async def test_a_stream_is_not_read_on_for_ever(
    gate: Gateway,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[Step],
    output: int,
) -> None:
    """At the bound the upstream is closed, and what is charged is what a client that leaves a
    stream is charged.
    """
    monkeypatch.setattr(relay, "_READ_ON", 0.05)
    upstream.script([*steps, HANG])
    key = await key_of(gate)
    async with under_way(gate.url, upstream, key, begun=bool(steps)) as client:
        client.reset()
        await closed_within_a_second(upstream)
    await gate.idle()
    used = await gate.used(key)
    assert (used["requests"], used["tokens"]) == ((1, 0), (11 + output, 0))
    assert not gate.door.calls


@pytest.mark.parametrize(
    ("plan", "team_plan"), [("default", "other"), ("other", "default")], ids=["key's", "team's"]
)
async def test_either_plan_will_do(
    gate: Gateway, upstream: ScriptedUpstream, plan: str, team_plan: str
) -> None:
    """The plan of the key drains its streams, and so does that of its team."""
    left = asyncio.Event()
    upstream.script([Pause(left), *chat_stream(["Hello"], USAGE)])
    key = await key_of(gate, plan=plan, team_plan=team_plan)
    async with under_way(gate.url, upstream, key) as client:
        client.reset()
        await logged(gate)
    left.set()
    await gate.idle()
    assert (await gate.used(key))["tokens"] == (15, 0)


async def test_a_client_that_stays_sees_no_difference(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """With the plan that drains, a stream arrives byte for byte and is a complete one."""
    steps = chat_stream(["Hel", "lo"])
    upstream.script(steps)
    async with gate.post(await key_of(gate)) as answer:
        body = await answer.read()
    assert body == b"".join(step.data for step in steps if isinstance(step, Send))
    assert (await gate.request_line())["ended"] == "complete"
    assert GONE not in await gate.metrics()


async def test_a_client_that_never_reads_is_not_drained(
    store_url: str, upstream: ScriptedUpstream
) -> None:
    """A client that is there and does not read is given up as ever: nothing is read on for it."""
    upstream.script([Head(), *[Send(FILLER)] * 400, HANG])
    async with open_gateway(store_url, upstream.url, plans=PLANS, patience=0.1) as gate:
        key = await key_of(gate)
        async with connected(gate.url, receive_buffer=8192) as client:
            await client.send(chat_request(key))
            assert (await client.head()).status == 200
            async with asyncio.timeout(2):
                await upstream.wait_closed(1)
            assert (await gate.request_line())["ended"] == "slow_client"


async def test_a_client_that_read_slowly_and_left(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """An upstream that was held back for a client goes on once that has left, and is read on."""
    head, first, *rest = chat_stream(["Hello"], USAGE)
    upstream.script([head, first, *[Send(FILLER)] * 200, *rest])
    key = await key_of(gate)
    async with connected(gate.url, receive_buffer=8192) as client:
        await client.send(chat_request(key))
        assert (await client.head()).status == 200
        await until(lambda: any(t.get_name() == "slow-client" for t in asyncio.all_tasks()))
        client.reset()
        await gate.idle()
    assert (await gate.used(key))["tokens"] == (15, 0)


@pytest.mark.parametrize(
    ("stream", "output"), [(True, 2), (False, 50)], ids=["a stream", "a whole answer"]
)
async def test_the_worker_does_not_wait_for_ever(
    store_url: str, upstream: ScriptedUpstream, stream: bool, output: int
) -> None:
    """A worker that stops breaks off what it reads on: a stream is charged as far as it came, a
    whole answer with all that it may have cost.
    """
    upstream.script([Head(), Send(WORD), HANG] if stream else [HANG])
    async with AsyncExitStack() as stack:
        opened = open_gateway(store_url, upstream.url, plans=PLANS, server={"drain": "100ms"})
        gate = await stack.enter_async_context(opened)
        key = await key_of(gate)
        body = {**HELLO, "stream": stream}
        async with under_way(gate.url, upstream, key, body, begun=stream) as client:
            client.reset()
            await logged(gate)
    async with open_gateway(store_url, upstream.url) as another:
        used = await another.used(key)
        assert used == {"requests": (1, 0), "tokens": (11 + output, 0)}


@pytest.fixture
async def uncancelled(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway whose handlers learn of a client's leaving only when they write."""
    tell_no_handler(monkeypatch)
    async with open_gateway(store_url, upstream.url, plans=PLANS) as opened:
        yield opened


@pytest.mark.parametrize("begun", [0, 2], ids=["the head", "a write"])
async def test_a_write_finds_the_client_gone(
    uncancelled: Gateway, upstream: ScriptedUpstream, begun: int
) -> None:
    """Whatever it is that can no longer be written, the rest is read, and the end tells."""
    left = asyncio.Event()
    steps = chat_stream(["Hel", "lo"], USAGE)
    upstream.script([*steps[:begun], Pause(left), *steps[begun:]])
    key = await key_of(uncancelled)
    async with under_way(uncancelled.url, upstream, key, begun=begun > 0) as client:
        client.reset()
        await uncancelled.metrics()  # a round trip: the reset has been seen by now
        left.set()
        line = await uncancelled.request_line()
    assert (line["status"], line["ended"]) == (499, "client_gone")
    assert await uncancelled.used(key) == {"requests": (1, 0), "tokens": (15, 0)}
