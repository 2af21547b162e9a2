"""Each vendor of chat completions behind a whole gateway, asked by the official openai SDK."""

from __future__ import annotations

import json

import pytest

from tests.gateway import events
from tests.scripted import ScriptedUpstream
from tests.scripted.vendors import VENDORS, Vendor, fixture
from tests.web.vendors import WITH_USAGE, OpenVendor, asking, charged, listened, sdk, usage_of


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.parametrize("name", ["text.sse", "image.sse", "tools.sse", "refusal.sse"])
async def test_a_stream(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """A client that knows nothing of the vendor reads its stream; its own usage is charged."""
    upstream.script(vendor.answers(name))
    async with open_vendor(vendor) as (gate, key), sdk(gate, key) as client:
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
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """A client that asks for the usage gets every byte that the vendor sent."""
    upstream.script(vendor.answers(name))
    async with (
        open_vendor(vendor) as (gate, key),
        gate.post(key, asking(name, **WITH_USAGE)) as answer,
    ):
        assert answer.status == 200
        assert await answer.read() == fixture(vendor.name, name)
        assert "x-vendor-cookie" not in answer.headers


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_only_what_nobody_asked_for_is_missing(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """Without asking for the usage a client misses no event but that of the usage alone."""
    upstream.script(vendor.answers("text.sse"))
    async with open_vendor(vendor) as (gate, key), gate.post(key, asking("text")) as answer:
        told = events(await answer.read())
    sent = events(fixture(vendor.name, "text.sse"))
    if vendor.name == "azure":
        assert told[0]["prompt_filter_results"] == sent[0]["prompt_filter_results"]
        told, sent = told[1:], sent[1:]
    assert told == [event for event in sent if event == "[DONE]" or event["choices"]]


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
@pytest.mark.parametrize("name", ["text.json", "image.json", "tools.json", "refusal.json"])
async def test_a_whole_answer(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor, name: str
) -> None:
    """An answer that is not streamed passes byte for byte, and its own usage is charged."""
    upstream.script(vendor.answers(name))
    async with (
        open_vendor(vendor) as (gate, key),
        gate.post(key, asking(name, stream=False)) as answer,
    ):
        assert answer.status == 200
        assert await answer.read() == fixture(vendor.name, name)
        assert await charged(gate) == (usage_of(vendor, name), "upstream")


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
async def test_the_sdk_reads_a_whole_answer(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """The SDK makes a completion of the vendor's answer."""
    upstream.script(vendor.answers("tools.json"))
    async with open_vendor(vendor) as (gate, key), sdk(gate, key) as client:
        answer = await client.chat.completions.create(**asking("tools", stream=False))
    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("area", {"w": 3})
