"""Images that cost much, beside other requests: what is done in what order, and in what memory.

At full size, with times: tests/chaos/test_images.py.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import turns
from proxy.web import chat, read
from tests.chaos.images import MIB, Case, Images, run_images
from tests.chaos.server import run_server
from tests.gateway import HELLO, Gateway
from tests.images.samples import data_uri, large_png
from tests.scripted import (
    End,
    Head,
    Recorded,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_stream,
    sse,
)

WORD = sse({"choices": [{"index": 0, "delta": {"content": "Hello"}}]})


def shows(*urls: str, **more: Any) -> bytes:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return json.dumps({**HELLO, "messages": [{"role": "user", "content": parts}], **more}).encode()


def post(gateway: Gateway, key: str, body: bytes) -> Any:
    """As gateway.post, for what is large."""
    return gateway.session.post(
        f"{gateway.url}/v1/chat/completions",
        data=io.BytesIO(body),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )


@pytest.mark.parametrize("detail", [None, "low"])
async def test_a_large_image_arrives_as_it_was_sent(
    gateway: Gateway, upstream: ScriptedUpstream, detail: str | None
) -> None:
    """Every byte of a large image reaches the provider, whether or not its part is changed."""
    upstream.script(chat_stream(["Seen."]))
    picture = data_uri(large_png(3 * MIB))
    body = shows(picture, picture, detail=detail)
    async with post(gateway, await gateway.key(), body) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
    (request,) = upstream.requests
    assert request.header("content-length") == str(len(request.body))
    found = [part["image_url"] for part in request.json()["messages"][0]["content"]]
    assert found == [{"url": picture, **({"detail": detail} if detail else {})}] * 2


async def test_a_stream_goes_on_while_a_large_body_is_read(
    gateway: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at a large body and the last, another stream gets many chunks."""
    passed = 0
    at: list[int] = []
    over = False

    def endless() -> Iterator[Step]:
        yield Head()
        while not over:
            yield Send(WORD)
            yield Sleep(0)
        yield Send(sse("[DONE]"))
        yield End()

    def answers(request: Recorded) -> Any:
        return endless() if len(request.body) < MIB else chat_stream(["Seen."])

    def noting(*given: Any) -> Any:
        at.append(passed)
        made = yield from parse(*given)
        at.append(passed)
        return made

    parse = chat.parse_chat
    upstream.script(answers)
    key = await gateway.key()

    async def read_on() -> None:
        nonlocal passed
        async for data in stream.content.iter_any():
            passed += data.count(WORD)

    async with gateway.post(key, HELLO) as stream:
        reading = asyncio.create_task(read_on())
        monkeypatch.setattr(chat, "parse_chat", noting)
        monkeypatch.setattr(turns, "_HOLD", 0.0)  # a step at a time, on a fast machine too
        async with post(gateway, key, shows(data_uri(large_png(6 * MIB)))) as answer:
            assert answer.status == 200
            await answer.read()
        over = True
        await reading
    begun, ended = at
    assert ended - begun > 10


async def test_large_bodies_arrive_in_turns(
    gateway: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of a large body waits for its turn, and what is small for nobody."""
    taken: list[str] = []

    def noting() -> Any:
        taken.append("turn")
        return turns.turn()

    monkeypatch.setattr(read, "turn", noting)
    upstream.script(chat_stream(["Seen."]))
    key = await gateway.key()
    for size, waits in ((100_000, False), (2 * MIB, True)):
        async with post(gateway, key, shows(data_uri(large_png(size)))) as answer:
            assert answer.status == 200
            await answer.read()
        assert bool(taken) == waits


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with (
        run_server(tmp_path_factory.mktemp("valkey")) as server,
        run_images(tmp_path_factory.mktemp("fleet"), server.url) as images,
    ):
        yield images


@pytest.mark.parametrize(
    "case",
    [
        Case("endless", 3, 400, 3 * 20 * MIB),
        Case("cat", 2, 200, 2 * 10 * MIB * 7 // 3, images=10),
        Case("bodies", 8, 200, 8 * 6_000_000, size=6_000_000),
    ],
    ids=lambda case: case.name,
)
async def test_memory(images: Images, case: Case) -> None:
    """Images are answered as they are to be, and held in less than twice their bytes."""
    (key,) = await images.stand.keys(f"hold-{case.name}", 1)
    await images.hold(key.secret, case)
