"""A new provider takes one file and its row in the registry, and all else follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import openai
import pytest

from proxy.domain.routing import Model
from proxy.providers.registry import KINDS
from proxy.rules import build_models, build_providers
from proxy.upstream.direct import DirectTransport
from proxy.upstream.proof import Asked, prove
from tests.gateway import HELLO, Gateway, make_config, open_gateway
from tests.providers import toy
from tests.scripted import End, Head, Recorded, ScriptedUpstream, Send, Step, json_reply, sse
from tests.web.vendors import sdk

OVER = {"over": {"heard": 40, "said": 6}}
SAID = [{"say": "Hel"}, {"say": "lo."}]
MODEL = {"targets": [{"provider": "toys"}], "max_output": 100, "retries": 0,
         "price": {"input": 1, "output": 1}}  # fmt: skip


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's row in the registry."""
    monkeypatch.setitem(KINDS, "toy", toy.KIND)  # type: ignore[arg-type]


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    provider = {"kind": "toy", "base_url": upstream.url, "api_key": "sk-toy",
                "breaker": {"failures": 0}}  # fmt: skip
    async with open_gateway(
        store_url, upstream.url, providers={"toys": provider}, models={"small": MODEL}
    ) as gate:
        yield gate


def answer(asked: Recorded) -> Iterable[Step]:
    """The toy's own server, which takes nothing but its own language."""
    body = asked.json()
    assert (asked.path, asked.header("toy-key")) == ("/v1/talk", "sk-toy")
    assert asked.header("authorization") is None
    assert body.keys() == {"toy", "ask", "most", "live"}
    if not body["live"]:
        return json_reply(200, [*SAID, OVER])
    events = [Send(sse(one)) for one in (*SAID, OVER)]
    return [Head(200, (("Content-Type", "text/event-stream"),)), *events, End()]


ASK: Any = {**HELLO, "model": "small"}


async def charged(gate: Gateway) -> tuple[int, int, str]:
    line = await gate.request_line()
    return line["input_tokens"], line["output_tokens"], line["source"]


async def test_a_stream(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The SDK reads its stream, and its own usage is charged."""
    upstream.script(answer)
    async with sdk(gate, await gate.key()) as client:
        stream = await client.chat.completions.create(**ASK)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
    assert text == "Hello."
    assert await charged(gate) == (40, 6, "upstream")


async def test_a_whole_answer(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """So is an answer that is not streamed."""
    upstream.script(answer)
    async with sdk(gate, await gate.key()) as client:
        made = await client.chat.completions.create(**{**ASK, "stream": False})
    assert made.choices[0].message.content == "Hello."
    assert await charged(gate) == (40, 6, "upstream")


async def test_an_error_in_mid_stream(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """What it says of an error reaches the SDK as one."""
    events = [Send(sse(*SAID, {"wrong": "the toy broke"}))]
    upstream.script([Head(200, (("Content-Type", "text/event-stream"),)), *events, End()])
    async with sdk(gate, await gate.key()) as client:
        stream = await client.chat.completions.create(**ASK)
        with pytest.raises(openai.APIError, match="the toy broke"):
            [chunk async for chunk in stream]


async def test_a_refusal(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Its status and its words are OpenAI's to the SDK."""
    head = Head(418, (("Content-Type", "text/plain"), ("Content-Length", "3")), chunked=False)
    upstream.script([head, Send(b"hot"), End()])
    async with sdk(gate, await gate.key()) as client:
        with pytest.raises(openai.RateLimitError, match="hot"):
            await client.chat.completions.create(**ASK)


def build() -> Model:
    providers = {"toys": {"kind": "toy", "base_url": "https://toy.example"}}
    config = make_config(
        "unix:///x.sock", "https://x.example", providers=providers, models={"small": MODEL}
    )
    assert build_providers(config)["toys"].kind is toy.KIND
    return build_models(config)["small"]


def test_its_rules() -> None:
    """Without limits of its own on images it has none beside the plan's."""
    model = build()
    assert model.targets[0].url == "https://toy.example/talk"
    assert model.kinds == frozenset()


async def test_its_proof_of_life(upstream: ScriptedUpstream) -> None:
    """Without a list of models it is asked whether it answers, and that is what is told."""
    providers = {"toys": {"kind": "toy", "base_url": upstream.url, "api_key": "sk-toy"}}
    config = make_config(
        "unix:///x.sock", upstream.url, providers=providers, models={"small": MODEL}
    )
    upstream.script(json_reply(404, {}))
    transport = DirectTransport()
    provider = build_providers(config)["toys"]
    (proof,) = await prove(Asked(provider, upstream.url, ["small"]), transport)
    await transport.close()
    assert (proof.reachable, proof.authorised, proof.fault) == (True, None, "")
    assert "no list" in proof.remark
