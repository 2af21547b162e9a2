"""What the tests of vendors share: a gateway before one, and how a client reads its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import openai

from tests.gateway import HELLO, Gateway, open_gateway
from tests.images.samples import SAMPLES, data_uri
from tests.scripted import ScriptedUpstream
from tests.scripted.vendors import Vendor, settings

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

OpenVendor = Callable[[Vendor], AbstractAsyncContextManager[tuple[Gateway, str]]]


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


@asynccontextmanager
async def opened_vendor(
    store_url: str, upstream: ScriptedUpstream, vendor: Vendor
) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway before a scripted vendor, and a key for it."""
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
