"""What goes wrong at each vendor, as the official openai SDK shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import openai
import pytest

from tests.gateway import events
from tests.scripted import ScriptedUpstream
from tests.scripted.vendors import VENDORS, Vendor, fixture
from tests.web.vendors import OpenVendor, Told, asking, charged, listened, sdk

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
    open_vendor: OpenVendor, upstream: ScriptedUpstream, vendor: Vendor
) -> None:
    """The vendor's 400 is the SDK's BadRequestError with OpenAI's keys, and costs no tokens."""
    upstream.script(vendor.answers("error.json", 400))
    async with open_vendor(vendor) as (gate, key), sdk(gate, key) as client:
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
    open_vendor: OpenVendor,
    upstream: ScriptedUpstream,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key of ours that the vendor refuses, however it says so, is a 502, not to be retried."""
    upstream.script(vendor.answers("text.sse"))
    monkeypatch.setattr("tests.scripted.vendors.KEY", "sk-another")
    async with open_vendor(vendor) as (gate, key):
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
async def test_an_error_in_mid_stream(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, name: str
) -> None:
    """An error event of the vendor's makes the SDK raise with its message, whatever came before."""
    vendor = VENDORS[name]
    upstream.script(vendor.answers("error.sse"))
    async with open_vendor(vendor) as (gate, key), sdk(gate, key) as client:
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


async def test_mistral_finishes_with_an_error(
    open_vendor: OpenVendor, upstream: ScriptedUpstream
) -> None:
    """Mistral tells of an error as a reason to finish, which the client sees."""
    upstream.script(VENDORS["mistral"].answers("error.sse"))
    async with open_vendor(VENDORS["mistral"]) as (gate, key), sdk(gate, key) as client:
        stream = await client.chat.completions.create(**asking("text"))
        assert await listened(stream) == ("A red", [], "error")
        assert await charged(gate) == (Told(1117, 2), "upstream")


async def test_mistral_names_a_field_that_it_does_not_know(
    open_vendor: OpenVendor, upstream: ScriptedUpstream
) -> None:
    """A 422 about a field of the client's names it, in OpenAI's form."""
    upstream.script(VENDORS["mistral"].answers("text.sse"))
    async with open_vendor(VENDORS["mistral"]) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await client.chat.completions.create(**asking("text", seed=7))
    assert caught.value.param == "seed"
    assert caught.value.body["message"] == "seed: Extra inputs are not permitted"


async def test_openrouter_without_credit(
    open_vendor: OpenVendor, upstream: ScriptedUpstream
) -> None:
    """A 402 is the platform's matter: a 502 that says so."""
    upstream.script(VENDORS["openrouter"].answers("credits.json", 402))
    async with open_vendor(VENDORS["openrouter"]) as (gate, key), gate.post(key) as answer:
        assert answer.status == 502
        assert "no credit" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(("name", "code"), [("ollama", None), ("azure", "DeploymentNotFound")])
async def test_a_model_that_is_not_there(
    open_vendor: OpenVendor, upstream: ScriptedUpstream, name: str, code: str | None
) -> None:
    """A 404 with the vendor's own words is the SDK's NotFoundError with them."""
    answers = {"ollama": "no_model.json", "azure": "no_deployment.json"}
    upstream.script(VENDORS[name].answers(answers[name], 404))
    async with open_vendor(VENDORS[name]) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**asking("text"))
    assert caught.value.code == code
    assert "base_url" not in caught.value.body["message"]


async def test_azures_version_by_the_other_transport(
    open_vendor: OpenVendor, upstream: ScriptedUpstream
) -> None:
    """The version in a dated address reaches Azure whichever transport carries it."""
    dated = VENDORS["azure dated"]
    other = replace(dated, provider={**dated.provider, "transport": "aiohttp"})
    upstream.script(other.answers("text.sse"))
    async with open_vendor(other) as (gate, key), gate.post(key) as answer:
        assert answer.status == 200
        assert events(await answer.read())[-1] == "[DONE]"
    assert upstream.requests[0].header("authorization") is None


async def test_an_address_without_its_path(
    open_vendor: OpenVendor, upstream: ScriptedUpstream
) -> None:
    """A base URL without its /v1 leads to a bare 404, which says so."""
    upstream.script(VENDORS["groq"].answers("text.sse"))
    lost = Vendor("groq", "", path="/v1")
    async with open_vendor(lost) as (gate, key), sdk(gate, key) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(**asking("text"))
    assert "base_url may be wrong, or lack its /v1" in caught.value.body["message"]
