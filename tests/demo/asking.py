"""How the tests ask the demo upstream, and take its answers apart."""

from __future__ import annotations

import base64
import json
from typing import Any

import toktok
from aiohttp import web
from aiohttp.test_utils import TestClient

from proxy.demo.picture import demo_picture
from proxy.demo.upstream import DEMO_KEY

Client = TestClient[web.Request, web.Application]

AUTH = {"Authorization": f"Bearer {DEMO_KEY}"}
DATA = "data:image/png;base64," + base64.b64encode(demo_picture()).decode()
SEEN = "The image is a PNG of 64 by 48 pixels; its dominant colour is teal."
LINK = "The image was given as a link; this demo fetches nothing, so it has not been looked at."
ASKED = "What is in this image?"


def chat(*images: str, text: str = ASKED, **fields: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": parts}], **fields}


def count(text: str) -> int:
    tokens: int = toktok.batch_count([text], "o200k_base", threads=1)[0]
    return tokens


async def whole(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    async with client.post("/v1/chat/completions", json=body) as answer:
        assert answer.status == 200
        got: dict[str, Any] = await answer.json()
        return got


async def say(client: Client, body: dict[str, Any]) -> str:
    said: str = (await whole(client, body))["choices"][0]["message"]["content"]
    return said


async def events(client: Client, body: dict[str, Any]) -> list[str]:
    async with client.post("/v1/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        text = await answer.text()
    assert text.endswith("\n\n")
    assert all(event.startswith("data: ") for event in text.split("\n\n")[:-1])
    return [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]]


async def chunks(client: Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    *data, done = await events(client, body)
    assert done == "[DONE]"
    return [json.loads(event) for event in data]


async def refusal(client: Client, body: Any, status: int = 400, **how: Any) -> dict[str, Any]:
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with client.post("/v1/chat/completions", **sent, **how) as answer:
        assert answer.status == status
        error: dict[str, Any] = (await answer.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error
