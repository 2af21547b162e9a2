"""The main job: a stream through the gateway, within its budget, on the books."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.images.sniff import ImageInfo
from proxy.images.visit import Fetched
from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.scripted import ScriptedUpstream, chat_json, chat_stream
from tests.web.refusals import refused

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


async def test_a_stream_passes_in_the_references_shape(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A stream arrives whole and ends with the end mark."""
    upstream.script(chat_stream(["The", " image"], usage=USAGE))
    key = await gateway.key()
    async with gateway.post(key) as answer:
        body = await answer.read()
        assert answer.status == 200, body
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-visiongate-source"] == "upstream"
        assert answer.headers["x-request-id"]
    chunks = events(body)
    assert chunks[-1] == "[DONE]"
    assert chunks[0]["object"] == "chat.completion.chunk"
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
    assert text == "The image"


async def test_usage_is_always_asked_for_and_withheld_from_who_did_not(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """The upstream is asked for usage; a client that did not ask gets no such event."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key()
    async with gateway.post(key) as answer:
        body = await answer.read()
    assert upstream.requests[0].json()["stream_options"] == {"include_usage": True}
    assert all(chunk["choices"] for chunk in events(body)[:-1])


async def test_usage_reaches_a_client_that_asked(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A client that asked for usage gets the event."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key()
    async with gateway.post(key, {**HELLO, "stream_options": {"include_usage": True}}) as answer:
        body = await answer.read()
    assert events(body)[-2]["usage"]["total_tokens"] == 15


async def test_a_whole_answer_passes(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Without stream the upstream's JSON comes back byte for byte."""
    upstream.script(chat_json("Hello!", USAGE))
    key = await gateway.key()
    async with gateway.post(key, {**HELLO, "stream": False}) as answer:
        body = await answer.json()
        assert answer.status == 200
    assert body["choices"][0]["message"]["content"] == "Hello!"
    assert "stream_options" not in upstream.requests[0].json()


async def test_the_books_agree(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """The ledger's limits, the metrics and the log line tell the same tokens."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key("1000 tokens/day", team_limits=("1 usd/month",))
    async with gateway.post(key) as answer:
        await answer.read()
    shown = await gateway.usage(key)
    assert shown["key"]["limits"][0]["used"] == 15
    assert shown["key"]["limits"][0]["reserved"] == 0
    # 12 input at 2.5 USD and 3 output at 10 USD per million.
    assert shown["team"]["limits"][0]["used"] == 0.00006
    samples = await gateway.metrics()
    whose = 'key="ci",kind="{}",model="gpt-4o",source="upstream",team="vision"'
    assert samples["visiongate_tokens_total{" + whose.format("input") + "}"] == 12
    assert samples["visiongate_tokens_total{" + whose.format("output") + "}"] == 3
    line = next(x for x in gateway.log_lines() if x.get("path") == "/v1/chat/completions")
    assert (line["input_tokens"], line["output_tokens"]) == (12, 3)
    assert line["status"] == 200
    assert line["ended"] == "complete"


async def test_nothing_secret_is_logged(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Neither the prompt nor a key reaches the log or the metrics."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key()
    async with gateway.post(key) as answer:
        await answer.read()
    await gateway.settled()
    told = gateway.log.getvalue() + json.dumps(await gateway.metrics())
    for secret in (key, "Say hello", "sk-upstream-secret"):
        assert secret not in told


async def test_the_upstream_gets_its_own_key_and_none_of_the_clients(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """The provider's key goes up, the client's key and headers stay."""
    upstream.script(chat_stream(["Hi"], usage=USAGE))
    key = await gateway.key()
    async with gateway.post(key, headers={"X-Secret": "1", "Cookie": "a=b"}) as answer:
        await answer.read()
    sent = upstream.requests[0]
    assert sent.header("authorization") == "Bearer sk-upstream-secret"
    assert key not in str(sent.headers)
    assert sent.header("x-secret") is None
    assert sent.header("cookie") is None


class Album:
    """Where every link is an image of so many bytes."""

    async def fetch(self, *_: object) -> Fetched:
        return Fetched(bytes(30_000), ImageInfo("png", 64, 64, frames=1, animated=False))


@pytest.mark.parametrize(("count", "fits"), [(1, True), (2, False)])
async def test_images_sent_inline_may_not_outgrow_a_body(
    store_url: str, upstream: ScriptedUpstream, count: int, fits: bool
) -> None:
    """Links that become more bytes than a body may have are refused, before anything is held."""

    @asynccontextmanager
    async def open_fetcher(*_: object) -> AsyncIterator[Any]:
        yield Album()

    upstream.script(chat_stream(["A cat."], USAGE))
    config = {"images": {"mode": "inline"}, "server": {"max_body": "50KiB"}}
    part = {"type": "image_url", "image_url": {"url": "https://pub.example/cat.png"}}
    body = {**HELLO, "messages": [{"role": "user", "content": [part] * count}]}
    async with open_gateway(store_url, upstream.url, open_fetcher=open_fetcher, **config) as gate:
        key = await gate.key("100k tokens/day")
        if fits:
            async with gate.post(key, body) as answer:
                assert (await answer.read(), answer.status)[1] == 200
            return
        error = await refused(gate.post(key, body), (400, "invalid_request_error", "invalid_value"))
        assert error["param"].startswith("messages[0].content[")
        assert "sent inline" in error["message"]
        assert await gate.used(key) == {"tokens": (0, 0)}
        assert not upstream.requests
