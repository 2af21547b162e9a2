"""Linked images through the whole gateway: looked at, or fetched and sent as data."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway import HELLO, Gateway, open_gateway
from tests.images.origin import PNG, Origin, hang, moved, reply
from tests.images.samples import SAMPLES
from tests.scripted import Recorded, ScriptedUpstream, chat_stream, error_json
from tests.web.refusals import refused

USAGE = {"prompt_tokens": 300, "completion_tokens": 3, "total_tokens": 303}
LINK = "http://pub.example/cat.png"
PATH = "messages[0].content[{}].image_url.url"
DATA = "data:image/png;base64," + base64.b64encode(PNG).decode()
IMAGES = {"schemes": ["http", "https", "data"], "ports": [80, 443]}


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as opened:
        opened.on("/cat.png", reply())
        yield opened


@asynccontextmanager
async def gate_with(
    store_url: str, upstream: ScriptedUpstream, origin: Origin, **images: Any
) -> AsyncIterator[Gateway]:
    upstream.script(chat_stream(["A cat."], USAGE))
    block = {**IMAGES, **images}
    async with open_gateway(
        store_url, upstream.url, open_fetcher=origin.open_fetcher, images=block
    ) as gate:
        yield gate


def asking(*urls: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {**HELLO, "messages": [{"role": "user", "content": parts}], **more}


async def served(gate: Gateway, body: dict[str, Any]) -> None:
    async with gate.post(await gate.key(), body) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()


def sent_up(upstream: ScriptedUpstream) -> list[str]:
    """The image URLs that the provider got."""
    body = json.loads(upstream.requests[-1].body)
    return [part["image_url"]["url"] for part in body["messages"][0]["content"]]


async def test_an_image_that_was_looked_at_goes_up_as_its_link(
    store_url: str, upstream: ScriptedUpstream, origin: Origin
) -> None:
    """Inspecting reads the first bytes of an image, and the provider fetches it itself."""
    async with gate_with(store_url, upstream, origin, mode="inspect") as gate:
        await served(gate, asking(LINK))
        assert sent_up(upstream) == [LINK]
        assert origin.paths == ["/cat.png"]
        metrics = await gate.metrics()
        assert metrics['visiongate_image_cache_total{result="miss"}'] == 1
        assert metrics["visiongate_image_fetch_seconds_count"] == 1
        name = 'visiongate_images_total{format="png",reason="",verdict="allowed"}'
        assert metrics[name] == 1


@pytest.mark.parametrize("mode", ["inspect", "inline"])
async def test_what_an_image_is_decides(
    store_url: str, upstream: ScriptedUpstream, origin: Origin, mode: str
) -> None:
    """Every image that is not what the policy allows is named; nothing goes upstream."""
    origin.on("/gif", reply(SAMPLES["gif"], kind="image/gif"))
    origin.on("/page", reply(b"<html>", kind="text/html"))
    links = [LINK, "http://pub.example/gif", "http://pub.example/page"]
    async with gate_with(store_url, upstream, origin, mode=mode, formats=["png"]) as gate:
        async with gate.post(await gate.key(), asking(*links)) as answer:
            error = (await answer.json())["error"]
            assert answer.status == 400
        assert error["param"] == PATH.format(1)
        assert PATH.format(1) in error["message"]
        assert PATH.format(2) in error["message"]
        assert PATH.format(0) not in error["message"]
        assert not upstream.requests


@pytest.mark.parametrize("mode", ["inspect", "inline"])
async def test_no_way_in(
    store_url: str, upstream: ScriptedUpstream, origin: Origin, mode: str
) -> None:
    """A name, a second answer or a redirect that leads inside is refused, and never dialled."""
    origin.names |= {
        "inner.example": ["10.0.0.7"],
        "mixed.example": ["93.184.216.34", "127.0.0.1"],
    }
    origin.on("/moved", moved("http://169.254.169.254/latest"))
    links = ["http://inner.example/", "http://mixed.example/", "http://pub.example/moved"]
    async with gate_with(store_url, upstream, origin, mode=mode) as gate:
        key = await gate.key()
        for link in links:
            async with gate.post(key, asking(link)) as answer:
                assert answer.status == 400
                message = (await answer.json())["error"]["message"]
            assert "could not be fetched" in message or "unreachable" in message, message
        assert {address for address, _ in origin.dialled} <= {"93.184.216.34"}
        assert not upstream.requests


async def test_what_cannot_be_reached(
    store_url: str, upstream: ScriptedUpstream, origin: Origin
) -> None:
    """An image that cannot be looked at is taken at its dearest, or refused where the plan says."""
    link = "http://pub.example/missing.png"
    async with gate_with(store_url, upstream, origin, mode="inspect") as gate:
        await served(gate, asking(link))
        assert sent_up(upstream) == [link]
    async with gate_with(
        store_url, upstream, origin, mode="inspect", on_unreachable="reject"
    ) as gate:
        await refused(
            gate.post(await gate.key(name="other"), asking(link)),
            (400, "invalid_request_error", "invalid_value"),
        )


async def test_inline(store_url: str, upstream: ScriptedUpstream, origin: Origin) -> None:
    """Inline, the provider gets the image as data and never the link; its price is exact."""
    left = []
    async with gate_with(store_url, upstream, origin, mode="inline") as gate:
        for name, image in (("link", LINK), ("data", DATA)):
            key = await gate.key("100k tokens/day", name=name)
            async with gate.post(key, asking(image, image)) as answer:
                await answer.read()
                left.append(answer.headers["x-ratelimit-remaining-tokens"])
            assert sent_up(upstream) == [DATA, DATA]
        assert b"pub.example" not in upstream.requests[0].body
        assert origin.paths == ["/cat.png"]
    assert left[0] == left[1]


def no_links(request: Recorded) -> Any:
    """The answer of a provider that takes an image as data alone."""
    if b"http" in request.body:
        return error_json(400, "Links are not supported.")
    return chat_stream(["A cat."], USAGE)


@pytest.mark.parametrize("mode", ["url", "inspect", "inline"])
@pytest.mark.parametrize("image_urls", ["inline", None])
async def test_an_inner_provider_fetches_nothing(
    store_url: str,
    upstream: ScriptedUpstream,
    origin: Origin,
    mode: str,
    image_urls: str | None,
) -> None:
    """A provider that takes no links, or whose address is not public, gets every image inline,
    whatever the mode; what is fetched, the gateway fetches, and once.
    """
    upstream.script(no_links)
    async with open_gateway(
        store_url,
        upstream.url,
        open_fetcher=origin.open_fetcher,
        images={**IMAGES, "mode": mode},
        providers={"openai": {"image_urls": image_urls}},
    ) as gate:
        await served(gate, asking(LINK, DATA, LINK, detail="low"))
        assert sent_up(upstream) == [DATA, DATA, DATA]
        assert origin.paths == ["/cat.png"]
        assert (await gate.metrics())["visiongate_image_fetch_seconds_count"] == 1


@pytest.mark.parametrize(("mode", "status"), [("inline", 200), ("inspect", 400), ("url", 400)])
async def test_internal_hosts_are_for_inline(
    store_url: str, upstream: ScriptedUpstream, origin: Origin, mode: str, status: int
) -> None:
    """An inner host that may be fetched is fetched by the gateway, and never forwarded."""
    origin.names["images.corp"] = ["10.1.2.3"]
    hosts = {"internal": ["images.corp"]}
    async with gate_with(store_url, upstream, origin, mode=mode, hosts=hosts) as gate:
        async with gate.post(await gate.key(), asking("http://images.corp/cat.png")) as answer:
            await answer.read()
            assert answer.status == status
        assert bool(origin.dialled) == (status == 200)


async def test_a_client_that_leaves_ends_its_fetch(
    store_url: str, upstream: ScriptedUpstream, origin: Origin
) -> None:
    """Nobody waits for an image whose client has gone, and nothing is charged."""
    origin.on("/slow", hang())
    async with gate_with(store_url, upstream, origin, mode="inline") as gate:
        key = await gate.key("1000 tokens/day")
        asked = gate.session.post(
            f"{gate.url}/v1/chat/completions",
            json=asking("http://pub.example/slow"),
            headers={"Authorization": f"Bearer {key}"},
        )
        async with asyncio_task(asked):
            await origin.plain.wait_requests(1)
        await origin.plain.wait_closed(1)
        assert not upstream.requests
        assert await gate.used(key) == {"tokens": (0, 0)}


@asynccontextmanager
async def asyncio_task(request: Any) -> AsyncIterator[None]:
    """A request under way for the length of the block, then broken off."""
    task = asyncio.ensure_future(request)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
