"""The official openai SDK, unchanged but for its base URL and key."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import msgspec
import openai
import pytest
from PIL import Image

from tests.gateway import Gateway
from tests.scripted import (
    Close,
    End,
    Head,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Step,
    chat_json,
    chat_stream,
    error_json,
    sse,
)

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ASK: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 50,
}


def sdk(gate: Gateway, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key)


def attempts(gate: Gateway) -> int:
    return sum(line["event"] == "request" for line in gate.log_lines())


def png() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


async def test_a_stream(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """A stream comes word by word, and no event without choices among them."""
    upstream.script(chat_stream(["The", " sunset"], USAGE))
    async with sdk(gateway, await gateway.key()) as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words) == "The sunset"


async def test_a_stream_with_its_usage(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Who asks for the usage gets it, last."""
    upstream.script(chat_stream(["Hi"], USAGE))
    async with sdk(gateway, await gateway.key()) as client:
        options = {"include_usage": True}
        stream = await client.chat.completions.create(**ASK, stream=True, stream_options=options)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15


async def test_a_whole_answer(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """Without a stream the answer and its usage come whole."""
    upstream.script(chat_json("Hello!", USAGE))
    async with sdk(gateway, await gateway.key()) as client:
        answer = await client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Hello!"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_the_synchronous_client(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """The synchronous client streams and waits alike."""
    upstream.script(chat_stream(["The", " sunset"], USAGE))
    upstream.script(chat_json("Hello!", USAGE))
    key = await gateway.key()

    def talk() -> tuple[str, str | None, list[str]]:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
            stream = client.chat.completions.create(**ASK, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            whole = client.chat.completions.create(**ASK)
            models = [model.id for model in client.models.list()]
        return text, whole.choices[0].message.content, models

    text, whole, models = await asyncio.to_thread(talk)
    assert (text, whole) == ("The sunset", "Hello!")
    assert set(models) == {"gpt-4o", "gpt-4o-mini", "gpt-4-vision-preview"}


async def test_what_models_are(gateway: Gateway) -> None:
    """Beside what the SDK knows of a model, it has the window, the cap, the price and vision."""
    async with sdk(gateway, await gateway.key()) as client:
        listed = {model.id: model async for model in client.models.list()}
        one = await client.models.retrieve("gpt-4o")
    assert one == listed["gpt-4o"]
    assert (one.object, one.owned_by) == ("model", "openai")
    price = {"input": 2.5, "output": 10.0, "cached_input": 2.5, "cache_write": 0.0}
    assert one.model_extra == {
        "context_window": 128_000,
        "max_output": 16_384,
        "vision": True,
        "price": price,
    }


async def test_an_image(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """An image as a data URI reaches the upstream as it is, and its tokens are counted."""
    upstream.script(chat_stream(["Red."], {**USAGE, "prompt_tokens": 267, "total_tokens": 270}))
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": png(), "detail": "high"}},
    ]
    async with sdk(gateway, await gateway.key()) as client:
        ask: Any = {**ASK, "messages": [{"role": "user", "content": parts}]}
        stream = await client.chat.completions.create(**ask, stream=True)
        async for _ in stream:
            pass
    assert upstream.requests[0].json()["messages"][0]["content"] == parts
    await gateway.settled()
    samples = await gateway.metrics()
    whose = '{key="ci",model="gpt-4o",team="vision"}'
    assert samples["visiongate_image_tokens_total" + whose] > 200
    allowed = 'visiongate_images_total{format="png",reason="",verdict="allowed"}'
    assert samples[allowed] == 1


async def test_tools_pass(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """The client's tools go up, and the model's calls of them come down."""
    call = {"index": 0, "id": "call_1", "type": "function"}
    call["function"] = {"name": "look", "arguments": "{}"}
    delta = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    upstream.script([Head(), Send(sse({**chunk, "choices": [delta]}, "[DONE]")), End()])
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}
    async with sdk(gateway, await gateway.key()) as client:
        stream = await client.chat.completions.create(**ASK, stream=True, tools=[tool])
        chunks = [chunk async for chunk in stream]
    assert upstream.requests[0].json()["tools"] == [tool]
    calls = chunks[0].choices[0].delta.tool_calls
    assert calls is not None
    assert calls[0].function is not None
    assert calls[0].function.name == "look"


async def test_a_wrong_key_is_an_authentication_error(gateway: Gateway) -> None:
    """A wrong key raises AuthenticationError, after one attempt."""
    async with sdk(gateway, "vg_wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(**ASK)
    assert caught.value.code == "invalid_api_key"
    assert caught.value.request_id == gateway.log_lines()[0]["id"]
    assert attempts(gateway) == 1


async def test_a_bad_field_is_a_bad_request_error(gateway: Gateway) -> None:
    """A bad field raises BadRequestError that names it."""
    async with sdk(gateway, await gateway.key()) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**ASK, temperature=3)
    assert caught.value.param == "temperature"


async def test_an_unknown_model_is_a_not_found_error(gateway: Gateway) -> None:
    """An unknown model raises NotFoundError."""
    async with sdk(gateway, await gateway.key()) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**{**ASK, "model": "gpt-9"})
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_another_api_is_a_not_found_error(gateway: Gateway) -> None:
    """An API that is not served raises NotFoundError, which names those that are."""
    async with sdk(gateway, await gateway.key()) as client:
        with pytest.raises(openai.NotFoundError, match="chat/completions"):
            await client.responses.create(model="gpt-4o", input="hello")


async def test_a_spent_budget_is_tried_once(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    """A budget that is spent raises RateLimitError after exactly one attempt."""
    upstream.script(chat_json("Hello!", {**USAGE, "completion_tokens": 50}))
    async with sdk(gateway, await gateway.key("100 tokens")) as client:
        await client.chat.completions.create(**ASK)
        await gateway.settled()
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**ASK)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert attempts(gateway) == 2


async def test_a_full_house_is_tried_three_times(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A limit that only requests in flight hold raises RateLimitError after two more attempts."""
    over = asyncio.Event()
    upstream.script([Head(), Send(sse({"choices": []})), Pause(over), Send(sse("[DONE]")), End()])
    key = await gateway.key("1 concurrent")
    async with sdk(gateway, key) as client, gateway.post(key) as held:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**ASK)
        assert attempts(gateway) == 3
        over.set()
        await held.read()
    assert caught.value.code == "rate_limit_exceeded"


async def test_an_upstreams_rate_limit_is_tried_three_times(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A 429 of the provider's is retried as if the provider had been asked directly."""
    wait = (("retry-after-ms", "1"),)
    upstream.script(error_json(429, "Slow down.", "requests", "rate_limit_exceeded", headers=wait))
    async with sdk(gateway, await gateway.key()) as client:
        with pytest.raises(openai.RateLimitError, match="Slow down"):
            await client.chat.completions.create(**ASK)
    assert len(upstream.requests) == 3


async def test_a_paused_team_is_a_permission_denied_error(gateway: Gateway) -> None:
    """A paused team raises PermissionDeniedError."""
    key = await gateway.key()
    await gateway.directory.change_team(
        "vision", lambda record: msgspec.structs.replace(record, status="paused")
    )
    async with sdk(gateway, key) as client:
        with pytest.raises(openai.PermissionDeniedError, match="paused"):
            await client.chat.completions.create(**ASK)


WORD = sse({"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]})


@pytest.mark.parametrize(
    "end",
    [
        [Close()],
        [End()],
        [Reset()],
        [Send(b'data: {"half'), End()],
        [Send(sse({"error": {"message": "overloaded", "type": "server_error"}})), End()],
    ],
    ids=["truncated", "clean", "reset", "half", "error"],
)
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_broken_stream_raises(
    gateway: Gateway, upstream: ScriptedUpstream, end: list[Step], asynchronous: bool
) -> None:
    """However the upstream breaks off, no SDK takes what came for the whole."""
    upstream.script([Head(), Send(WORD), *end])
    key = await gateway.key()

    def listen() -> None:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
            for _ in client.chat.completions.create(**ASK, stream=True):
                pass

    async def alisten() -> None:
        async with sdk(gateway, key) as client:
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass

    with pytest.raises(openai.APIError):
        await (alisten() if asynchronous else asyncio.to_thread(listen))
