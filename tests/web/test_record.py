"""The line that a request leaves in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateway import Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.raw import chat_request, connected

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway behind a proxy on this machine."""
    trusted = {"trusted_proxies": ["127.0.0.0/8"]}
    async with open_gateway(store_url, upstream.url, server=trusted) as opened:
        yield opened


async def test_the_order_of_a_line(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Who asked, for what, what came of it and what it cost; the event, its level and time last."""
    upstream.script(chat_stream(["Hi"], USAGE))
    async with gate.post(await gate.key()) as answer:
        await answer.read()
    (line,) = gate.log_lines()
    assert list(line) == [
        *("id", "client", "method", "path", "status", "team", "key", "model", "provider"),
        *("reason", "observed", "cause", "ended", "ms", "first_byte_ms"),
        *("input_tokens", "output_tokens", "cached_tokens", "images", "usd", "source"),
        *("event", "level", "timestamp"),
    ]
    assert list(line.values())[1:9] == [
        *("127.0.0.1", "POST", "/v1/chat/completions", 200),
        *("vision", "ci", "gpt-4o", "openai"),
    ]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"198.51.100.9, 192.0.2.7, 127.0.0.3", "192.0.2.7"),
        (b"caf\xff\xe9", "caf\\udcff\\udce9"),
        (b"x" * 100, "x" * 64),
        (b" ,", "127.0.0.1"),
    ],
)
async def test_who_asked_behind_a_proxy(gate: Gateway, forwarded: bytes, client: str) -> None:
    """The client is the last address that no trusted proxy added, whatever bytes it is made of."""
    head, _, body = chat_request(None).partition(b"\r\n\r\n")
    head += b"\r\nx-forwarded-for: " + forwarded
    async with connected(gate.url) as connection:
        await connection.send(head, b"\r\n\r\n", body)
        assert (await connection.answer()).status == 401
    (line,) = gate.log_lines()
    assert (line["client"], line["status"]) == (client, 401)
