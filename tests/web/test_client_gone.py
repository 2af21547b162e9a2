"""Clients that leave: the upstream is closed at once, and what was used is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import End, Head, Pause, Reset, ScriptedUpstream, Send, Step, chat_json, sse
from tests.web.books import busy
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

WHOLE = {**HELLO, "stream": False}


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("steps", [[HANG], [Head(), HANG]], ids=["before the head", "after it"])
async def test_leaving_before_the_first_byte(
    gateway: Gateway, upstream: ScriptedUpstream, how: str, steps: list[Step]
) -> None:
    """A client that leaves while it waits ends the call, and is charged for the input."""
    upstream.script(steps)
    key = await key_of(gateway)
    async with under_way(gateway.url, upstream, key) as client:
        LEAVE[how](client)
        await closed_within_a_second(upstream)
    line = await gateway.request_line()
    assert (line["status"], line["ended"]) == (499, "client_gone")
    assert line["input_tokens"] > 0
    assert line["output_tokens"] == 0
    used = await gateway.used(key)
    assert used == {"requests": (1, 0), "tokens": (line["input_tokens"], 0)}


@pytest.mark.parametrize("how", LEAVE)
async def test_leaving_in_mid_stream(
    gateway: Gateway, upstream: ScriptedUpstream, how: str
) -> None:
    """A client that leaves a stream ends the call, and is charged for the input and what came."""
    upstream.script([Head(), Send(WORD + WORD), HANG])
    key = await key_of(gateway)
    async with under_way(gateway.url, upstream, key, begun=True) as client:
        LEAVE[how](client)
        await closed_within_a_second(upstream)
    line = await gateway.request_line()
    assert (line["ended"], line["source"]) == ("client_gone", "estimated")
    assert line["output_tokens"] == 4  # "Hello there" twice
    used = await gateway.used(key)
    assert used["tokens"] == (line["input_tokens"] + 4, 0)
    samples = await gateway.metrics()
    assert samples['visiongate_streams_ended_total{reason="client_gone"}'] == 1
    assert samples["visiongate_streams_active"] == 0


async def test_leaving_while_sending(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """A client that leaves in the middle of its own body has used nothing."""
    key = await key_of(gateway)
    async with connected(gateway.url) as client:
        await client.send(chat_request(key, b"{", content_length="100"))
        await gateway.metrics()  # a round trip: the head has been read by now
        client.reset()
    await logged(gateway)
    assert gateway.log_lines()[0]["status"] == 499
    assert await gateway.used(key) == {"requests": (0, 0), "tokens": (0, 0)}
    assert not upstream.requests


@pytest.mark.parametrize("how", LEAVE)
async def test_leaving_a_whole_answer(
    gateway: Gateway, upstream: ScriptedUpstream, how: str
) -> None:
    """Without a stream the answer is read to its end all the same, and charged exactly."""
    left = asyncio.Event()
    head, body, end = chat_json("Hello!", USAGE)
    upstream.script([Pause(left), head, body, end])
    key = await key_of(gateway)
    async with under_way(gateway.url, upstream, key, WHOLE) as client:
        LEAVE[how](client)
        await logged(gateway)
    assert (await gateway.used(key))["tokens"][1] > 0  # still reserved
    left.set()
    await gateway.idle()
    assert await gateway.used(key) == {"requests": (1, 0), "tokens": (15, 0)}
    assert not upstream.closed_at
    samples = await gateway.metrics()
    whose = 'key="ci",kind="output",model="gpt-4o",source="upstream",team="vision"'
    assert samples["visiongate_tokens_total{" + whose + "}"] == 3


async def test_leaving_a_whole_answer_that_fails(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Nor is anything but the request charged where the answer that nobody awaits fails."""
    left = asyncio.Event()
    upstream.script([Pause(left), Reset()])
    key = await key_of(gateway)
    async with under_way(gateway.url, upstream, key, WHOLE) as client:
        client.reset()
        await logged(gateway)
    left.set()
    await gateway.idle()
    assert await gateway.used(key) == {"requests": (1, 0), "tokens": (0, 0)}


@pytest.fixture
async def uncancelled(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway whose handlers learn of a client's leaving only when they write."""
    tell_no_handler(monkeypatch)
    async with open_gateway(store_url, upstream.url) as opened:
        yield opened


async def test_the_head_finds_the_client_gone(
    uncancelled: Gateway, upstream: ScriptedUpstream
) -> None:
    """Where the head can no longer be written the call ends, and the input is charged."""
    left = asyncio.Event()
    upstream.script([Pause(left), Head(), Send(WORD), HANG])
    key = await key_of(uncancelled)
    async with under_way(uncancelled.url, upstream, key) as client:
        client.reset()
        await uncancelled.metrics()  # a round trip: the reset has been seen by now
        left.set()
        await closed_within_a_second(upstream)
    line = await uncancelled.request_line()
    assert (line["status"], line["ended"], line["output_tokens"]) == (499, "client_gone", 0)
    assert (await uncancelled.used(key))["tokens"] == (line["input_tokens"], 0)


async def test_a_write_finds_the_client_gone(
    uncancelled: Gateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a piece can no longer be written the call ends, and what came is charged."""
    left = asyncio.Event()
    upstream.script([Head(), Send(WORD), Pause(left), Send(WORD), HANG])
    key = await key_of(uncancelled)
    async with under_way(uncancelled.url, upstream, key, begun=True) as client:
        client.reset()
        await uncancelled.metrics()
        left.set()
        await closed_within_a_second(upstream)
    line = await uncancelled.request_line()
    assert (line["ended"], line["output_tokens"]) == ("client_gone", 4)
    assert (await uncancelled.used(key))["tokens"] == (line["input_tokens"] + 4, 0)
    assert not caplog.records


async def test_many_who_leave_at_once_leave_nothing_behind(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Thirty clients that leave at thirty moments leave no reservation and no open call."""
    upstream.script([Head(), *[Send(WORD)] * 20, End()])
    key = await key_of(gateway)
    request = chat_request(key)

    async def leave_after(turns: int) -> None:
        async with connected(gateway.url) as client:
            await client.send(request)
            for _ in range(turns):
                await asyncio.sleep(0)

    await asyncio.gather(*(leave_after(4 * n) for n in range(30)))
    await until(lambda: len(gateway.log_lines()) == 30)
    await gateway.idle()
    used = await gateway.used(key)
    assert used["requests"][1] == used["tokens"][1] == 0
    assert not busy(gateway)
    told = [json.loads(x)["status"] for x in gateway.log.getvalue().splitlines()]
    assert set(told) <= {200, 499}


async def test_leaving_with_the_end_mark(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Who leaves with the end mark, as SDKs do, has not left the answer, which is complete."""
    end = sse("[DONE]")
    upstream.script([Head(), Send(WORD), Send(end), HANG])
    key = await key_of(gateway)
    async with under_way(gateway.url, upstream, key, begun=True) as client:
        assert await client.chunk() == end
        client.writer.close()
        await closed_within_a_second(upstream)
    line = await gateway.request_line()
    assert (line["status"], line["ended"], line["output_tokens"]) == (499, "complete", 2)
    samples = await gateway.metrics()
    assert samples['visiongate_streams_ended_total{reason="complete"}'] == 1
