"""Bodies that are no chat request, and images that may not pass: each names its field."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.gateway import HELLO, Gateway
from tests.scripted import ScriptedUpstream
from tests.web.refusals import refusal

INVALID = "invalid_request_error"


@pytest.fixture
async def gate(gateway: Gateway, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway whose upstream must not be asked."""
    yield gateway
    assert not upstream.requests


def body_with(text: str) -> bytes:
    """HELLO with `text` as one more field."""
    return json.dumps(HELLO).encode()[:-1] + f", {text}".encode() + b"}"


def messages_with(content: str) -> bytes:
    text = f'"messages": [{{"role": "user", "content": {content}}}]'
    return f'{{"model": "gpt-4o", {text}}}'.encode()


#: The body, and the param that the refusal names.
HOSTILE: Mapping[str, tuple[bytes, str | None]] = {
    "not json": (b"hello", None),
    "half an object": (b'{"model": "gpt-4o"', None),
    "two objects": (b"{}{}", None),
    "a list": (b"[]", None),
    "null": (b"null", None),
    "not utf-8": (b'{"model": "gpt-4o", "x": "\xff"}', None),
    "utf-16": (json.dumps(HELLO).encode("utf-16"), None),
    "nul": (b"\0" * 100, None),
    "nul within": (b'{"model": "gpt-4o\0"}', None),
    "deep list": (body_with('"x": ' + "[" * 50_000 + "]" * 50_000), None),
    "deep object": (body_with('"x": ' + '{"a":' * 50_000 + "1" + "}" * 50_000), None),
    "deep content": (messages_with("[" * 50_000 + "]" * 50_000), None),
    "5000 digits": (body_with('"max_completion_tokens": ' + "9" * 5000), "max_completion_tokens"),
    "huge exponent": (body_with('"temperature": 1e999999'), "temperature"),
    "nan": (body_with('"temperature": NaN'), None),
    "infinity": (body_with('"temperature": -Infinity'), None),
    "lone surrogate": (messages_with('"\\ud800"'), None),
    "lone surrogate as a model": (b'{"model": "\\udfff", "messages": []}', None),
    "a key twice": (body_with('"model": "gpt-4o-mini"'), "model"),
    "an inner key twice": (messages_with('[{"type": "text", "type": "image_url"}]'), "type"),
    "no model": (b'{"messages": []}', "model"),
    "model of a wrong type": (b'{"model": 5}', "model"),
    "no messages": (b'{"model": "gpt-4o"}', "messages"),
    "empty messages": (b'{"model": "gpt-4o", "messages": []}', "messages"),
    "messages of a wrong type": (b'{"model": "gpt-4o", "messages": {}}', "messages"),
    "a message of a wrong type": (b'{"model": "gpt-4o", "messages": ["hi"]}', "messages[0]"),
    "content of a wrong type": (messages_with("5"), "messages[0].content"),
    "a part of a wrong type": (messages_with('["hi"]'), "messages[0].content[0]"),
    "a part without a type": (messages_with("[{}]"), "messages[0].content[0].type"),
    "an image without a url": (
        messages_with('[{"type": "image_url", "image_url": {}}]'),
        "messages[0].content[0].image_url.url",
    ),
    "a url that is a number": (
        messages_with('[{"type": "image_url", "image_url": {"url": 5}}]'),
        "messages[0].content[0].image_url.url",
    ),
    "a url that is none": (
        messages_with('[{"type": "image_url", "image_url": {"url": "http://[::1"}}]'),
        "messages[0].content[0].image_url.url",
    ),
    "max_tokens of zero": (body_with('"max_completion_tokens": 0'), "max_completion_tokens"),
    "max_tokens with a fraction": (
        body_with('"max_completion_tokens": 1.5'),
        "max_completion_tokens",
    ),
    "a hot temperature": (body_with('"temperature": 2.5'), "temperature"),
    "a temperature that is true": (body_with('"temperature": true'), "temperature"),
    "stream as a string": (b'{"model": "gpt-4o", "stream": "true"}', "stream"),
    "unknown detail": (body_with('"detail": "extreme"'), "detail"),
    "n of 1000": (body_with('"n": 1000'), "n"),
    "audio": (body_with('"audio": {"voice": "x"}'), "audio"),
    "web search": (body_with('"web_search_options": {}'), "web_search_options"),
    "service tier": (body_with('"service_tier": "priority"'), "service_tier"),
    "kept": (body_with('"store": true'), "store"),
    "a hosted tool": (body_with('"tools": [{"type": "web_search"}]'), "tools[0].type"),
    "a file": (
        messages_with('[{"type": "file", "file": {"file_id": "x"}}]'),
        "messages[0].content[0].type",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body(gate: Gateway, name: str) -> None:
    """What is no chat request is a 400 that names the field."""
    body, param = HOSTILE[name]
    key = await gate.key()
    async with gate.post(key, body) as answer:
        got = await answer.read()
        code = json.loads(got)["error"]["code"]
        error = refusal(answer.status, answer.headers, got, (400, INVALID, code))
    assert error["param"] == param, error
    assert len(error["message"]) < 500


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


PIXEL = base64.b64encode(b"BM" + bytes(60)).decode()


@pytest.mark.parametrize(
    ("url", "code", "word"),
    [
        (f"data:image/bmp;base64,{PIXEL}", "invalid_image_format", "bmp"),
        (f"data:image/png;base64,{PIXEL}", "invalid_image_format", "png"),
        ("data:image/png;base64,!!!!", "invalid_value", "base64"),
        ("https://127.0.0.1/a.png", "invalid_value", "public"),
        ("https://169.254.169.254/latest/meta-data/", "invalid_value", "public"),
        ("https://2130706433/a.png", "invalid_value", "four decimal numbers"),
        ("https://[::ffff:127.0.0.1]/a.png", "invalid_value", "public"),
        ("http://example.com/a.png", "invalid_value", "https"),
        ("https://example.com:8443/a.png", "invalid_value", "port"),
        ("file:///etc/passwd", "invalid_value", "https"),
        ("", "invalid_value", ""),
    ],
)
async def test_an_image_that_may_not_pass(gate: Gateway, url: str, code: str, word: str) -> None:
    """An image of a wrong format, and a URL that leads where none may lead, are refused by path."""
    key = await gate.key()
    parts = [{"type": "text", "text": "What is this?"}, image(url)]
    body = {**HELLO, "messages": [{"role": "user", "content": parts}]}
    async with gate.post(key, body) as answer:
        got = await answer.read()
        found = json.loads(got)["error"]["code"]
        error = refusal(answer.status, answer.headers, got, (400, INVALID, found))
    assert found in (code, None), error
    assert error["param"] == "messages[0].content[1].image_url.url"
    assert word in error["message"].lower(), error
