"""Each vendor of chat completions behind a whole gateway, asked by the official openai SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import openai
import pytest

from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.images.samples import SAMPLES, data_uri
from tests.scripted import ScriptedUpstream
from tests.scripted.vendors import VENDORS, Vendor, fixture, settings

MODEL = "gpt-4o"
WITH_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
TOOL: Any = {
    "type": "function",
    "function": {"name": "area", "parameters": {"type": "object", "properties": {}}},
}
PICTURE = {"type": "image_url", "image_url": {"url": data_uri(SAMPLES["png"])}}
ASKS: dict[str, dict[str, Any]] = {
    "text": {},
    "image": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, PICTURE]}]
    },
    "tools": {"tools": [TOOL]},
    "refusal": {},
}

Open = Callable[[Vendor], AbstractAsyncContextManager[tuple[Gateway, str]]]


class Told(NamedTuple):
    """What a vendor reports: tokens of input, of output with what was thought, and cached ones."""

    input: int
    output: int
    cached: int = 0


#: What each vendor says of its fixtures where it is not the usual.
USAGE: dict[str, Told] = {
    "text": Told(1117, 5),
    "image": Told(271, 2),
    "tools": Told(82, 17),
    "refusal": Told(30, 9),
    "openai text": Told(1117, 46, 1024),
    "openai tools.sse": Told(82, 41),
    "azure text": Told(1117, 46, 1024),
    "openrouter text": Told(1117, 46, 1024),
    "vllm text": Told(1117, 5, 1024),
    # What was thought is in the total alone: 1231 - 1117, 140 - 82, 39 - 30.
    "gemini text": Told(1117, 114),
    "gemini tools": Told(82, 58),
}


def usage_of(vendor: Vendor, name: str) -> Told:
    about = name.partition(".")[0]
    names = (f"{vendor.name} {name}", f"{vendor.name} {about}", about)
    return next(USAGE[name] for name in names if name in USAGE)


@pytest.fixture
def opened(store_url: str, upstream: ScriptedUpstream) -> Open:
    @asynccontextmanager
    async def opening(vendor: Vendor) -> AsyncIterator[tuple[Gateway, str]]:
        timeouts = {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"}
        provider = {**settings(vendor, upstream.port), "timeouts": timeouts}
        deployed = "our-4o" if vendor.name == "azure" else MODEL
        targets = [{"provider": "vendor", "model": deployed}]
        price = {"input": 2.5, "output": 10, "cached_input": 1.25}
        models = {MODEL: {"targets": targets, "price": price}}
        async with open_gateway(
            store_url, upstream.url, providers={"vendor": provider}, models=models
        ) as gate:
            yield gate, await gate.key("100 usd/day")

    return opening


def sdk(gate: Gateway, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key=key, max_retries=0)


def asking(name: str, **more: Any) -> dict[str, Any]:
    """What is asked for an answer of that name."""
    return {**HELLO, **ASKS.get(name.partition(".")[0], {}), **more}


async def charged(gate: Gateway) -> tuple[Told, str]:
    line = await gate.request_line()
    told = Told(line["input_tokens"], line["output_tokens"], line["cached_tokens"])
    return told, line["source"]


async def listened(stream: Any) -> tuple[str, list[str], str]:
    """The text, the arguments of tool calls, and how it finished, as most clients read a stream:
    by the first choice of each chunk.
    """
    text, calls, finish = "", dict[int, str](), ""
    async for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or choice.delta.refusal or ""
        for call in choice.delta.tool_calls or ():
            calls[call.index] = calls.get(call.index, "") + (call.function.arguments or "")
        finish = choice.finish_reason or finish
    return text, [calls[index] for index in sorted(calls)], finish


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.parametrize("name", ["text.sse", "image.sse", "tools.sse", "refusal.sse"])
async def test_a_stream(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """A client that knows nothing of the vendor reads its stream; its own usage is charged."""
    upstream.script(vendor.answers(name))
    async with opened(vendor) as (gate, key), sdk(gate, key) as client:
        stream = await client.chat.completions.create(**asking(name))
        text, calls, finish = await listened(stream)
        assert await charged(gate) == (usage_of(vendor, name), "upstream")
    about = name.partition(".")[0]
    if about == "tools":
        wanted = [{"w": 3}, {"w": 4}] if vendor.name == "openai" else [{"w": 3}]
        assert [json.loads(call) for call in calls] == wanted
        assert finish == "tool_calls"
    else:
        assert text == {"text": "A red square.", "image": "Räd 🟥"}.get(about, text)
        assert text
        assert finish in {"text": ("stop",), "image": ("length",)}.get(
            about, ("stop", "content_filter")
        )


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.parametrize("name", ["text.sse", "tools.sse", "refusal.sse"])
async def test_a_stream_byte_for_byte(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """A client that asks for the usage gets every byte that the vendor sent."""
    upstream.script(vendor.answers(name))
    async with (
        opened(vendor) as (gate, key),
        gate.post(key, asking(name, **WITH_USAGE)) as answer,
    ):
        assert answer.status == 200
        assert await answer.read() == fixture(vendor.name, name)
        assert "x-vendor-cookie" not in answer.headers


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_only_what_nobody_asked_for_is_missing(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """Without asking for the usage a client misses no event but that of the usage alone."""
    upstream.script(vendor.answers("text.sse"))
    async with opened(vendor) as (gate, key), gate.post(key, asking("text")) as answer:
        told = events(await answer.read())
    sent = events(fixture(vendor.name, "text.sse"))
    if vendor.name == "azure":
        assert told[0]["prompt_filter_results"] == sent[0]["prompt_filter_results"]
        told, sent = told[1:], sent[1:]
    assert told == [event for event in sent if event == "[DONE]" or event["choices"]]


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.parametrize("name", ["text.json", "tools.json", "refusal.json"])
async def test_a_whole_answer(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """An answer that is not streamed passes byte for byte, and its own usage is charged."""
    upstream.script(vendor.answers(name))
    async with (
        opened(vendor) as (gate, key),
        gate.post(key, asking(name, stream=False)) as answer,
    ):
        assert answer.status == 200
        assert await answer.read() == fixture(vendor.name, name)
        assert await charged(gate) == (usage_of(vendor, name), "upstream")


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_the_sdk_reads_a_whole_answer(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """The SDK makes a completion of the vendor's answer."""
    upstream.script(vendor.answers("tools.json"))
    async with opened(vendor) as (gate, key), sdk(gate, key) as client:
        answer = await client.chat.completions.create(**asking("tools", stream=False))
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("area", {"w": 3})


#: What a client sees of each vendor's refusal: how the message begins, code and param.
REFUSED = {
    "openai": ("Invalid image", "invalid_image_format", "messages[0].content[1].image_url"),
    "azure": ("The response was filtered", "content_filter", "prompt"),
    "gemini": ("Invalid value at 'contents[0]", None, None),
    "mistral": ("Prompt contains 140000 tokens", "context_length_exceeded", "messages"),
    "groq": ("Failed to call a function", "tool_use_failed", None),
    "openrouter": ("Provider returned error", None, None),
    "vllm": ("This model's maximum context", "context_length_exceeded", "messages"),
    "ollama": ("invalid image input", None, None),
}
#: What of the vendor's own reaches the client beside the four keys.
MORE = {
    "azure": ("innererror", "ResponsibleAIPolicyViolation"),
    "groq": ("failed_generation", "<function=area>"),
    "openrouter": ("metadata", "Novita"),
    "gemini": ("status", "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_a_refusal_of_the_request(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """The vendor's 400 is the SDK's BadRequestError with OpenAI's keys, and costs no tokens."""
    upstream.script(vendor.answers("error.json", 400))
    async with opened(vendor) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**asking("text"))
        line = await gate.request_line()
    error = caught.value
    message, code, param = REFUSED[vendor.name]
    assert error.body["message"].startswith(message)
    assert (error.code, error.param) == (code, param)
    assert error.body.keys() >= {"message", "type", "param", "code"}
    field, word = MORE.get(vendor.name, ("message", ""))
    assert word in json.dumps(error.body[field])
    assert (line["input_tokens"], line["output_tokens"]) == (0, 0)


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_our_own_key_refused(
    opened: Open, upstream: ScriptedUpstream, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of ours that the vendor refuses, however it says so, is a 502, not to be retried."""
    upstream.script(vendor.answers("text.sse"))
    monkeypatch.setattr("tests.scripted.vendors.KEY", "sk-another")
    async with opened(vendor) as (gate, key):
        monkeypatch.setattr("tests.scripted.vendors.KEY", "sk-changed")
        async with gate.post(key) as answer:
            assert answer.status == 502
            assert answer.headers["x-should-retry"] == "false"
            text = await answer.text()
    assert "refused the gateway's credentials" in text
    assert "sk-" not in text


#: Those that say in a stream that it has failed.
FAILING = ("openai", "azure", "azure dated", "gemini", "groq", "openrouter", "vllm", "ollama")


@pytest.mark.parametrize("name", FAILING)
async def test_an_error_in_mid_stream(opened: Open, upstream: ScriptedUpstream, name: str) -> None:
    """An error event of the vendor's makes the SDK raise with its message, whatever came before."""
    vendor = VENDORS[name]
    upstream.script(vendor.answers("error.sse"))
    async with opened(vendor) as (gate, key), sdk(gate, key) as client:
        stream = await client.chat.completions.create(**asking("text"))
        with pytest.raises(openai.APIError) as caught:
            await listened(stream)
        line = await gate.request_line()
    (said,) = [event["error"] for event in told_of(vendor, "error.sse") if "error" in event]
    assert caught.value.message == said["message"]
    assert line["ended"] in ("upstream_failed", "client_gone")  # whichever closed first
    assert line["output_tokens"] > 0


def told_of(vendor: Vendor, name: str) -> list[Any]:
    data = fixture(vendor.name, name).replace(b"event: error\n", b"")
    return [event for event in events(data) if event != "[DONE]"]


async def test_mistral_finishes_with_an_error(opened: Open, upstream: ScriptedUpstream) -> None:
    """Mistral tells of an error as a reason to finish, which the client sees."""
    upstream.script(VENDORS["mistral"].answers("error.sse"))
    async with opened(VENDORS["mistral"]) as (gate, key), sdk(gate, key) as client:
        stream = await client.chat.completions.create(**asking("text"))
        assert await listened(stream) == ("A red", [], "error")
        assert await charged(gate) == (Told(1117, 2), "upstream")


async def test_mistral_names_a_field_that_it_does_not_know(
    opened: Open, upstream: ScriptedUpstream
) -> None:
    """A 422 about a field of the client's names it, in OpenAI's form."""
    upstream.script(VENDORS["mistral"].answers("text.sse"))
    async with opened(VENDORS["mistral"]) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await client.chat.completions.create(**asking("text", seed=7))
    assert caught.value.param == "seed"
    assert caught.value.body["message"] == "seed: Extra inputs are not permitted"


async def test_openrouter_without_credit(opened: Open, upstream: ScriptedUpstream) -> None:
    """A 402 is the platform's matter: a 502 that says so."""
    upstream.script(VENDORS["openrouter"].answers("credits.json", 402))
    async with opened(VENDORS["openrouter"]) as (gate, key), gate.post(key) as answer:
        assert answer.status == 502
        assert "no credit" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(("name", "code"), [("ollama", None), ("azure", "DeploymentNotFound")])
async def test_a_model_that_is_not_there(
    opened: Open, upstream: ScriptedUpstream, name: str, code: str | None
) -> None:
    """A 404 with the vendor's own words is the SDK's NotFoundError with them."""
    answers = {"ollama": "no_model.json", "azure": "no_deployment.json"}
    upstream.script(VENDORS[name].answers(answers[name], 404))
    async with opened(VENDORS[name]) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**asking("text"))
    assert caught.value.code == code
    assert "base_url" not in caught.value.body["message"]


async def test_azures_version_by_the_other_transport(
    opened: Open, upstream: ScriptedUpstream
) -> None:
    """The version in a dated address reaches Azure whichever transport carries it."""
    dated = VENDORS["azure dated"]
    other = replace(dated, provider={**dated.provider, "transport": "aiohttp"})
    upstream.script(other.answers("text.sse"))
    async with opened(other) as (gate, key), gate.post(key) as answer:
        assert answer.status == 200
        assert events(await answer.read())[-1] == "[DONE]"
    assert upstream.requests[0].header("authorization") is None


async def test_an_address_without_its_path(opened: Open, upstream: ScriptedUpstream) -> None:
    """A base URL without its /v1 leads to a bare 404, which says so."""
    upstream.script(VENDORS["groq"].answers("text.sse"))
    lost = Vendor("groq", "", path="/v1")
    async with opened(lost) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**asking("text"))
    assert "base_url may be wrong, or lack its /v1" in caught.value.body["message"]
