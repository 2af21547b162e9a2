"""What the demo upstream refuses, and that it does so in OpenAI's envelope."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient, AiohttpServer

from proxy.demo.upstream import MAX_IMAGES, make_demo_upstream
from tests.demo.asking import DATA, Client, chat, refusal, say


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", "Basic sk-demo", "Bearer sk-demo x", "Bearer é"]
)
async def test_a_wrong_key_is_refused(aiohttp_client: AiohttpClient, given: str | None) -> None:
    """Without the demo's key every path answers 401 in OpenAI's envelope."""
    client = await aiohttp_client(make_demo_upstream())
    headers = {} if given is None else {"Authorization": given}
    error = await refusal(client, chat(DATA), 401, headers=headers)
    assert (error["code"], error["param"]) == ("invalid_api_key", None)
    async with client.get("/v1/models", headers=headers) as answer:
        assert answer.status == 401


async def test_a_key_that_is_no_text_is_refused(aiohttp_server: AiohttpServer) -> None:
    """Bytes that are not UTF-8 are a wrong key, not an error of the server's."""
    server = await aiohttp_server(make_demo_upstream())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 129}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"image_url": {}}]}]}, "url"),
    ],
)
async def test_a_bad_field_is_named(client: Client, change: dict[str, Any], param: str) -> None:
    """A field of the wrong type or out of range is a 400 that names it."""
    assert (await refusal(client, {**chat(), **change}))["param"] == param


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":"\\ud800"}', b'{"model":"\xff"}', b'{"x":' + b"[" * 100_000],
)
async def test_a_bad_body_is_refused(client: Client, body: bytes) -> None:
    """A body that is no request in JSON is a 400."""
    await refusal(client, body)


async def test_an_unknown_model_is_refused(client: Client) -> None:
    """A model that is not served is 404 model_not_found."""
    error = await refusal(client, {**chat(), "model": "gpt-9"}, 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


async def test_work_is_bounded(client: Client) -> None:
    """Too many images are a 400, and a body over the limit is a 413, also one that inflates."""
    await say(client, chat(*[DATA] * MAX_IMAGES))
    assert (await refusal(client, chat(*[DATA] * (MAX_IMAGES + 1))))["param"] == "messages"
    bomb = gzip.compress(b" " * 40_000_000)
    error = await refusal(client, bomb, 413, headers={"Content-Encoding": "gzip"})
    assert error["code"] == "request_too_large"


async def test_other_paths_are_refused_in_the_envelope(client: Client) -> None:
    """An unknown path is a 404 and a wrong method a 405, both in OpenAI's envelope."""
    for path, status in (("/v1/embeddings", 404), ("/v1/chat/completions", 405)):
        async with client.get(path) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["type"] == "invalid_request_error"
