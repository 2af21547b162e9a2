"""Anthropic's models through a whole gateway, by the official openai SDK."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.images.samples import large_png, make_image
from tests.providers.anthropic import recorded
from tests.scripted import Close, End, Head, Pause, Reset, ScriptedUpstream, Send, Split
from tests.scripted.anthropic import (
    Asked,
    Data,
    Image,
    ToolResult,
    error,
    messages_api,
    read,
    stream,
)
from tests.web.refusals import refused
from tests.web.vendors import sdk

MODEL = "claude-sonnet-4-5"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hello."},
    ],
    "max_tokens": 600,
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string"}},
            "required": ["location"],
        },
    },
}
HEAD = Head(200, (("Content-Type", "text/event-stream"),))
PRICE = {"input": 3, "output": 15, "cached_input": 0.3, "cache_write": 3.75}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway with a model of Anthropic's."""
    async with opened(store_url, upstream) as gate:
        yield gate


def opened(store_url: str, upstream: ScriptedUpstream, path: str = "") -> Any:
    """A gateway whose provider's base URL has this path."""
    provider = {
        "kind": "anthropic",
        "base_url": upstream.url.removesuffix("/v1") + path,
        "api_key": "sk-ant-secret",
        "image_urls": "forward",
        "breaker": {"failures": 0},
        "timeouts": {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"},
    }
    model = {"targets": [{"provider": "anthropic"}], "max_output": 4096, "price": PRICE}
    return open_gateway(
        store_url, upstream.url, providers={"anthropic": provider}, models={MODEL: model}
    )


async def streamed(client: openai.AsyncOpenAI, **more: Any) -> Any:
    """The completion that the SDK makes of a stream."""
    async with client.chat.completions.stream(**{**ASK, **more}) as stream:
        async for _ in stream:
            pass
        return await stream.get_final_completion()


async def broken(answer: aiohttp.ClientResponse) -> list[Any]:
    """The events of a stream that ends uncleanly."""
    body = bytearray()

    async def take() -> None:
        async for part in answer.content.iter_any():
            body.extend(part)

    with pytest.raises(aiohttp.ClientPayloadError):
        await take()
    return events(bytes(body))


async def taken(chunks: Any, words: list[str]) -> None:
    async for chunk in chunks:
        words.append(chunk.choices[0].delta.content or "")


def asked(upstream: ScriptedUpstream, number: int = -1) -> Asked:
    return read(upstream.requests[number])


async def test_a_stream(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A stream arrives in the words that it was sent in; who did not ask sees no usage."""
    upstream.script(messages_api("text"))
    async with sdk(gate, await gate.key()) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True)]
    words = [chunk.choices[0].delta.content for chunk in chunks]
    assert words == ["", "The", " sunset", " over", " Zürich", " 🌅.", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    line = await gate.request_line()
    assert (line["input_tokens"], line["output_tokens"], line["ended"]) == (25, 15, "complete")
    assert asked(upstream).model == MODEL


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
async def test_the_address(store_url: str, upstream: ScriptedUpstream, path: str) -> None:
    """Whichever way the vendor's address is written, its API is found."""
    upstream.script(messages_api("text"))
    async with (
        opened(store_url, upstream, path) as gate,
        gate.post(await gate.key(), ASK) as answer,
    ):
        assert answer.status == 200


async def test_a_stream_with_its_usage(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Who asks for the usage gets the vendor's, last."""
    upstream.script(messages_api("cached"))
    async with sdk(gate, await gate.key()) as client:
        made = await streamed(client, stream_options={"include_usage": True})
    usage = made.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2098, 503, 2601)
    assert usage.prompt_tokens_details.cached_tokens == 1800


async def test_a_whole_answer(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Without a stream, answer and usage come whole."""
    upstream.script(messages_api("text"))
    async with sdk(gate, await gate.key()) as client:
        made = await client.chat.completions.create(**ASK)
    assert made.choices[0].message.content == "The sunset over Zürich 🌅."
    assert made.usage is not None
    assert made.usage.total_tokens == 40
    assert made.object == "chat.completion"
    assert (await gate.request_line())["input_tokens"] == 25


@pytest.mark.parametrize("whole", [True, False])
async def test_the_ledger_has_the_vendors_usage(
    gate: Gateway, upstream: ScriptedUpstream, whole: bool
) -> None:
    """What is charged is what the vendor told, each part of the input at its own price."""
    upstream.script(messages_api("cached"))
    key = await gate.key("100 usd/day", "1M tokens/day")
    async with gate.post(key, {**ASK, "stream": not whole}) as answer:
        await answer.read()
    used = await gate.used(key)
    assert used["tokens"] == (2098 + 503, 0)
    # 50 as they come, 1800 from the cache, 248 into it, and 503 of output.
    assert used["usd"] == (pytest.approx((50 * 3 + 1800 * 0.3 + 248 * 3.75 + 503 * 15) / 1e6), 0)
    samples = await gate.metrics()
    name = 'visiongate_cached_tokens_total{key="ci",model="claude-sonnet-4-5",team="vision"}'
    assert samples[name] == 1800


@pytest.mark.parametrize("whole", [True, False])
async def test_a_round_of_tools(gate: Gateway, upstream: ScriptedUpstream, whole: bool) -> None:
    """Calls that the SDK was handed go back with their results as the vendor wants them."""
    upstream.script(messages_api("tools"))
    upstream.script(messages_api("text"))
    async with sdk(gate, await gate.key()) as client:
        if whole:
            made: Any = await client.chat.completions.create(**ASK, tools=[TOOL])
        else:
            made = await streamed(client, tools=[TOOL])
        message = made.choices[0].message
        assert made.choices[0].finish_reason == "tool_calls"
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": call.function.arguments}
            for call in message.tool_calls
        ]
        history = [*ASK["messages"], message.model_dump(exclude_none=True), *results]
        again = {**ASK, "messages": history, "tools": [TOOL], "parallel_tool_calls": False}
        last = await client.chat.completions.create(**again)
    assert last.choices[0].message.content == "The sunset over Zürich 🌅."
    turns = asked(upstream).messages
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert all(isinstance(block, ToolResult) for block in turns[2].content)
    assert len(turns[2].content) == len(message.tool_calls) >= 2


@pytest.mark.parametrize("large", [True, False])
async def test_an_image_as_data(gate: Gateway, upstream: ScriptedUpstream, large: bool) -> None:
    """An image in the request reaches the vendor as base64, whole and under its own type."""
    upstream.script(messages_api("image"))
    picture = large_png(300_000) if large else make_image("PNG", 8, 8)
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    async with sdk(gate, await gate.key()) as client:
        made = await streamed(client, messages=[{"role": "user", "content": parts}])
    assert made.choices[0].message.content == "A red square."
    (block,) = [b for b in asked(upstream).messages[0].content if isinstance(b, Image)]
    assert isinstance(block.source, Data)
    assert (block.source.media_type, block.source.data) == ("image/png", picture)
    assert (await gate.request_line())["input_tokens"] == 1576
    samples = await gate.metrics()
    assert samples[
        'visiongate_image_tokens_total{key="ci",model="claude-sonnet-4-5",team="vision"}'
    ]


async def test_an_image_by_its_url(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A link is handed on as one, for the vendor to follow."""
    upstream.script(messages_api("image"))
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    ]
    async with sdk(gate, await gate.key()) as client:
        await streamed(client, messages=[{"role": "user", "content": parts}])
    block: Any = asked(upstream).messages[0].content[0]
    assert block.source.url == "https://example.com/a.png"


async def test_a_refusal(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A model that would not answer says so where the SDK looks for it."""
    upstream.script(messages_api("refusal"))
    async with sdk(gate, await gate.key()) as client:
        made = await client.chat.completions.create(**ASK)
        with pytest.raises(openai.ContentFilterFinishReasonError):
            await streamed(client)
    assert made.choices[0].finish_reason == "content_filter"
    assert made.choices[0].message.refusal == "This request could help to write malware."


async def test_the_cap_cuts(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An answer that ran into its cap says so."""
    upstream.script(messages_api("max_tokens"))
    async with sdk(gate, await gate.key()) as client:
        with pytest.raises(openai.LengthFinishReasonError):
            await streamed(client, max_tokens=10)
    assert asked(upstream).max_tokens == 10


async def test_what_cannot_be_had(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A field that cannot be translated is refused before anybody is asked, and costs nothing."""
    key = await gate.key("2 requests/day")
    async with sdk(gate, key) as client:
        with pytest.raises(openai.BadRequestError, match="gives one answer at a time") as caught:
            await client.chat.completions.create(**ASK, n=2)
    assert caught.value.param == "n"
    assert not upstream.requests
    assert await gate.used(key) == {"requests": (0, 0)}


@pytest.mark.parametrize(
    ("status", "kind", "message", "seen", "code"),
    [
        (
            *(400, "invalid_request_error", "prompt is too long: 207791 tokens > 200000 maximum"),
            *(openai.BadRequestError, "context_length_exceeded"),
        ),
        (400, "invalid_request_error", "messages: no", openai.BadRequestError, None),
        (404, "not_found_error", "model: claude-9", openai.NotFoundError, "model_not_found"),
        (429, "rate_limit_error", "Slow down.", openai.RateLimitError, "rate_limit_exceeded"),
    ],
)
async def test_the_vendors_refusals(
    gate: Gateway,
    upstream: ScriptedUpstream,
    status: int,
    kind: str,
    message: str,
    seen: type[openai.APIStatusError],
    code: str | None,
) -> None:
    """What the client can mend raises what OpenAI's would, and is not charged."""
    upstream.script(error(status, kind, message))
    key = await gate.key("1M tokens/day")
    async with sdk(gate, key) as client:
        with pytest.raises(seen, match=message.partition(":")[0]) as caught:
            await client.chat.completions.create(**ASK, stream=True)
    assert caught.value.code == code
    assert await gate.used(key) == {"tokens": (0, 0)}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_error"),
        (403, "permission_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
async def test_the_vendors_failures(
    gate: Gateway, upstream: ScriptedUpstream, status: int, kind: str
) -> None:
    """What is between the gateway and the vendor is a 502 without its words."""
    upstream.script(error(status, kind, "sk-ant-secret"))
    async with sdk(gate, await gate.key()) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(**ASK)
    assert caught.value.status_code == 502
    assert "sk-ant" not in str(caught.value)
    assert "sk-ant" not in gate.log.getvalue()


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("end", [End(), Close(), Reset()])
async def test_a_stream_that_breaks_off(
    gate: Gateway, upstream: ScriptedUpstream, end: Any, asks: bool
) -> None:
    """A stream without its end raises in the SDK; the prompt is charged as the vendor told it,
    and the output by what came.
    """
    upstream.script([HEAD, Send(recorded("cached.sse").partition(b"event: message_delta")[0]), end])
    key = await gate.key("1M input tokens/day", "1M output tokens/day")
    options = {"stream_options": {"include_usage": True}} if asks else {}
    words: list[str] = []
    async with sdk(gate, key) as client:
        ask: Any = {**ASK, **options, "stream": True}
        chunks = await client.chat.completions.create(**ask)
        with pytest.raises(openai.APIError):
            await taken(chunks, words)
    assert "".join(words) == "Yes."
    used = await gate.used(key)
    assert used["input tokens"] == (2098, 0)
    assert 0 < used["output tokens"][0] < 10
    assert (await gate.request_line())["ended"] == "upstream_failed"


async def test_a_stream_that_is_cut_anywhere(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Wherever the vendor's stream is cut, the SDK raises, be it of a plain error or in the stream,
    and the request is settled once.
    """
    came = recorded("tools.sse")
    cuts = range(1, len(came) - 1, len(came) // 20)
    key = await gate.key("1000 requests/day")
    async with sdk(gate, key) as client:
        for cut in cuts:
            upstream.script([HEAD, Send(came[:cut]), End()])
            with pytest.raises(openai.APIError):
                await taken(await client.chat.completions.create(**ASK, stream=True), [])
    await gate.idle()
    assert await gate.used(key) == {"requests": (len(cuts), 0)}


async def test_thoughts_that_break_off(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Where thoughts were under way, all that was reserved for the output is charged."""
    came = recorded("thinking.sse").partition(b"event: content_block_stop")[0]
    upstream.script([HEAD, Send(came), End()])
    key = await gate.key("1M output tokens/day")
    async with gate.post(key, {**ASK, "stream": True}) as answer:
        await broken(answer)
    assert await gate.used(key) == {"output tokens": (600, 0)}


async def test_an_error_in_mid_stream(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The vendor's error raises in the SDK in its words, and the connection ends uncleanly."""
    upstream.script(stream(recorded("error.sse")))
    async with sdk(gate, await gate.key()) as client:
        chunks = await client.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError, match="Overloaded"):
            await taken(chunks, [])
    async with gate.post(await gate.key(name="other"), {**ASK, "stream": True}) as answer:
        told = await broken(answer)
    assert told[-1]["error"].keys() == {"message", "type", "param", "code"}
    assert "[DONE]" not in told


@pytest.mark.parametrize(
    ("given", "said", "cause"),
    [
        ({"type": "authentication_error", "message": "bad"}, "gateway's credentials", "401"),
        ({"type": "api_error"}, "broke off its answer with an error", ""),
    ],
)
async def test_what_an_error_in_mid_stream_means(
    gate: Gateway, upstream: ScriptedUpstream, given: dict[str, str], said: str, cause: str
) -> None:
    """It is told, and logged, as any upstream's: by its status, or as an answer's end."""
    last = b"event: error\ndata: %b\n\n" % json.dumps({"type": "error", "error": given}).encode()
    came = recorded("error.sse").partition(b"event: error")[0] + last
    upstream.script([HEAD, Send(came), End()])
    async with gate.post(await gate.key(), {**ASK, "stream": True}) as answer:
        told = await broken(answer)
    assert said in told[-1]["error"]["message"]
    line = await gate.request_line()
    assert (line["ended"], line["cause"]) == ("upstream_failed", cause)


@pytest.mark.parametrize("text", [b"<html>", b"data: {\n\n", b'data: {"type":"message_stop"}\n\n'])
async def test_garbage(gate: Gateway, upstream: ScriptedUpstream, text: bytes) -> None:
    """A stream of something else is a plain error, and costs nothing."""
    upstream.script([HEAD, Send(text), End()])
    key = await gate.key("1M output tokens/day")
    await refused(gate.post(key, {**ASK, "stream": True}), (502, "server_error", None))
    assert await gate.used(key) == {"output tokens": (0, 0)}


async def test_a_stream_comes_as_it_is_made(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A word is with the client before the vendor has said the next one."""
    begun, rest = recorded("text.sse").split(b"event: content_block_stop")
    more = asyncio.Event()
    upstream.script([HEAD, Send(begun), Pause(more), Send(b"event: x" + rest), End()])
    async with sdk(gate, await gate.key()) as client:
        chunks = await client.chat.completions.create(**ASK, stream=True)
        words = ""
        async for chunk in chunks:
            words += chunk.choices[0].delta.content or ""
            if words.endswith("🌅."):
                more.set()
    assert words == "The sunset over Zürich 🌅."


async def test_reads_that_hold_no_event(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """However the vendor's bytes are cut, the client gets whole events."""
    upstream.script([HEAD, Split(recorded("tools.sse"), [1, 3, 90, 200, 7] * 4), End()])
    async with gate.post(await gate.key(), {**ASK, "stream": True}) as answer:
        body = await answer.read()
    assert events(body)[-1] == "[DONE]"
    assert (await gate.request_line())["input_tokens"] == 472


async def test_two_kinds_at_once(store_url: str, upstream: ScriptedUpstream) -> None:
    """OpenAI's models are served beside Anthropic's, each in its own way."""
    async with opened(store_url, upstream) as gate:
        key = await gate.key()
        upstream.script(messages_api("text"))
        async with gate.post(key, {**HELLO, "model": MODEL}) as answer:
            assert answer.status == 200
            await answer.read()
        upstream.script([HEAD, Send(b"data: [DONE]\n\n"), End()])
        async with gate.post(key) as answer:
            assert await answer.read() == b"data: [DONE]\n\n"
        first, second = upstream.requests
    assert (first.path, second.path) == ("/v1/messages", "/v1/chat/completions")
    assert first.header("authorization") is second.header("x-api-key") is None
    assert json.loads(second.body)["messages"] == HELLO["messages"]
