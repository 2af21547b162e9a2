"""Upstreams that fail: a clean error before the answer, an unmistakable end after it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.domain.meter import StreamMeter
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import (
    Close,
    End,
    Head,
    Raw,
    Reset,
    ScriptedUpstream,
    Send,
    Sleep,
    Step,
    chat_json,
    chat_stream,
    error_json,
    json_reply,
    sse,
)
from tests.web.books import open_books, quick
from tests.web.refusals import refused

FAILED = (502, "server_error", None)
TIMED_OUT = (504, "server_error", None)
INVALID = "invalid_request_error"
WHOLE = {**HELLO, "stream": False}
HTML = ("Content-Type", "text/html")
SSE = ("Content-Type", "text/event-stream")


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    async with quick(store_url, upstream) as opened:
        yield opened


HANG = Sleep(60)

BEFORE_THE_ANSWER: dict[str, tuple[list[Step], tuple[int, str, str | None], str]] = {
    "closes": ([Close()], FAILED, "upstream_failed"),
    "resets": ([Reset()], FAILED, "upstream_failed"),
    "no http": ([Raw(b"what?\r\n\r\n"), Close()], FAILED, "upstream_failed"),
    "half a head": ([Raw(b"HTTP/1.1 200 OK\r\nContent-"), Close()], FAILED, "upstream_failed"),
    "a head too long": (
        [Raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 50_000 + b"\r\n\r\n"), Close()],
        FAILED,
        "upstream_failed",
    ),
    "hangs": ([HANG], TIMED_OUT, "upstream_timeout"),
    "hangs after the head": ([Head(), HANG], TIMED_OUT, "upstream_timeout"),
    "resets after the head": ([Head(), Reset()], FAILED, "upstream_failed"),
    "500": (error_json(500, "boom: secret"), FAILED, "upstream_failed"),
    "503 in html": (
        [Head(503, (HTML,)), Send(b"<h1>secret</h1>"), End()],
        FAILED,
        "upstream_failed",
    ),
    "401": (error_json(401, "Incorrect API key: secret"), FAILED, "upstream_failed"),
    "402": (error_json(402, "no credit, secret"), FAILED, "upstream_failed"),
    "403": (error_json(403, "secret"), FAILED, "upstream_failed"),
    "an endless error": (
        [Head(400, (HTML,)), *[Send(b"secret" * 10_000)] * 3, HANG],
        FAILED,
        "upstream_failed",
    ),
    "204": ([Head(204, (), chunked=False), Close()], FAILED, "upstream_failed"),
    "the wrong type": (
        [Head(200, (HTML,)), Send(b"<h1>secret</h1>"), End()],
        FAILED,
        "upstream_failed",
    ),
    "compressed": (
        [Head(200, (SSE, ("Content-Encoding", "gzip"))), Send(gzip.compress(sse("x"))), End()],
        FAILED,
        "upstream_failed",
    ),
    "an empty stream": ([Head(), End()], FAILED, "upstream_failed"),
}


@pytest.mark.parametrize("name", BEFORE_THE_ANSWER)
async def test_a_failure_before_the_answer(
    gate: Gateway, upstream: ScriptedUpstream, name: str
) -> None:
    """Until the first byte a failure is a plain error; the request counts, its tokens do not,
    but for the input of one that the upstream may yet have read."""
    steps, expected, outcome = BEFORE_THE_ANSWER[name]
    upstream.script(steps)
    books = await open_books(gate)
    error = await refused(books.post(), expected)
    assert "secret" not in error["message"]
    assert str(upstream.port) not in error["message"]
    line = await gate.request_line()
    assert (line["status"], line["ended"]) == (expected[0], outcome)
    attempts = f'visiongate_upstream_attempts_total{{outcome="{outcome}",provider="openai"}}'
    assert line["output_tokens"] == 0
    assert (line["input_tokens"] > 0) == (expected is TIMED_OUT)
    await books.closed(requests=1, tokens=line["input_tokens"])
    assert (await gate.metrics())[attempts] == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_is_not_there(store_url: str, stream: bool) -> None:
    """A refused connection is a 502 that tells no address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening: no one else gets the port
        port = taken.getsockname()[1]
        async with open_gateway(store_url, f"http://127.0.0.1:{port}/v1") as gate:
            books = await open_books(gate)
            error = await refused(books.post({**HELLO, "stream": stream}), FAILED)
            assert str(port) not in error["message"]
            await books.closed(requests=1, tokens=0)


async def test_a_redirect_is_not_followed(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An upstream that points elsewhere gets no second request, least of all with the key."""
    there = ("Location", f"{upstream.url}/elsewhere")
    upstream.script([Head(307, (there,)), End()])
    books = await open_books(gate)
    error = await refused(books.post(), FAILED)
    assert "redirect" in error["message"]
    assert len(upstream.requests) == 1
    await books.closed(requests=1, tokens=0)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
async def test_the_clients_own_mistake_passes_byte_for_byte(
    gate: Gateway, upstream: ScriptedUpstream, status: int
) -> None:
    """What the upstream tells the client is what the client reads."""
    upstream.script(error_json(status, "Nö.", code="its_own", param="messages"))
    books = await open_books(gate)
    async with books.post() as answer:
        body = await answer.read()
        assert answer.status == status
        assert answer.headers["x-visiongate-source"] == "upstream"
    told = {"message": "Nö.", "type": INVALID, "param": "messages", "code": "its_own"}
    whole = json.dumps({"error": told}, separators=(",", ":"), ensure_ascii=False)
    assert body == whole.encode()
    assert (await gate.request_line())["reason"] == "upstream_refused"
    await books.closed(requests=1, tokens=0)


async def test_an_upstreams_rate_limit_passes_with_its_waiting_time(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """A 429 keeps Retry-After and x-should-retry, and no other header of the upstream's."""
    more = (("Retry-After", "7"), ("x-should-retry", "false"), ("Set-Cookie", "a=b"))
    upstream.script(error_json(429, "Slow down", "requests", "rate_limit_exceeded", headers=more))
    async with gate.post(await gate.key()) as answer:
        assert answer.status == 429
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-should-retry"] == "false"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b"<h1>Bad</h1>", "The upstream answered 400.", None),
        (b'{"error": "just text"}', "just text", None),
        (b'{"error": {"message": "half", "code": 7}}', "half", None),
        (b'{"detail": [{"loc": ["body"]}]}', "The upstream answered 400.", None),
        (b"", "The upstream answered 400.", None),
        (b"[" * 5000, "The upstream answered 400.", None),
    ],
)
async def test_another_shape_of_refusal_is_put_into_the_envelope(
    gate: Gateway, upstream: ScriptedUpstream, body: bytes, message: str, code: Any
) -> None:
    """A refusal without OpenAI's four keys gets them."""
    upstream.script([Head(400, (HTML,)), Send(body), End()])
    error = await refused(gate.post(await gate.key()), (400, INVALID, code), source="upstream")
    assert error["message"] == message


CUT = [Head(200, (("Content-Type", "application/json"),)), Send(b'{"id":'), Close()]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (chat_stream(["Hi"]), FAILED),
        (json_reply(200, ["no object"]), FAILED),
        (json_reply(200, {}), FAILED),
        (json_reply(200, {"choices": []}), FAILED),
        (json_reply(200, {"error": {"message": "Bad key, secret", "code": 401}}), FAILED),
        (CUT, FAILED),
        ([Head(200, (("Content-Type", "application/json"),)), HANG], TIMED_OUT),
        ([HANG], TIMED_OUT),
        ([Reset()], FAILED),
        (error_json(500, "secret"), FAILED),
    ],
)
async def test_a_whole_answer_that_fails(
    gate: Gateway, upstream: ScriptedUpstream, steps: list[Step], expected: Any
) -> None:
    """Without a stream every failure is a plain error, and what the upstream may have made, but not
    told in time or not to its end, is charged as it was reserved."""
    upstream.script(steps)
    books = await open_books(gate)
    error = await refused(books.post(WHOLE), expected)
    assert "secret" not in error["message"]
    line = await gate.request_line()
    made = expected is TIMED_OUT or steps is CUT
    assert line["output_tokens"] == (WHOLE["max_tokens"] if made else 0)
    await books.closed(requests=1, tokens=line["input_tokens"] + line["output_tokens"])


async def test_a_fault_of_our_own_in_a_whole_answer(
    gate: Gateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours that keeps a whole answer from its client does not make it free."""

    def broken(*_: object) -> bool:
        raise KeyError("the answer")

    upstream.script(chat_json("Hello"))
    books = await open_books(gate)
    monkeypatch.setattr(StreamMeter, "whole", broken)
    await refused(books.post(WHOLE), (500, "server_error", None))
    line = await gate.request_line()
    assert (line["status"], line["ended"]) == (500, "internal")
    assert line["output_tokens"] == HELLO["max_tokens"]
    await books.closed(requests=1, tokens=line["input_tokens"] + HELLO["max_tokens"])


@pytest.mark.parametrize("model", ["gpt-4o", "o3"])
@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 9, "completion_tokens": 4}])
async def test_an_error_of_status_200(
    store_url: str, upstream: ScriptedUpstream, model: str, usage: Any
) -> None:
    """An error in place of a whole answer is a 502 that tells it, and costs what its usage says."""
    body = {"error": {"message": "No provider for sk-upstream-secret", "code": 502}}
    upstream.script(json_reply(200, body if usage is None else {**body, "usage": usage}))
    models = {"o3": {"targets": [{"provider": "openai"}], "price": {"input": 2, "output": 8}}}
    async with open_gateway(store_url, upstream.url, models=models) as gate:
        books = await open_books(gate)
        error = await refused(books.post({**WHOLE, "model": model}), FAILED)
        assert error["message"] == "The upstream answered with an error: No provider for ***"
        await books.closed(requests=1, tokens=0 if usage is None else 13)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_name_that_is_not_found_in_time(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """A request that was never sent costs no tokens, however late it failed."""

    answered = asyncio.Event()

    async def resolve(*_: object, **__: object) -> list[Any]:
        await answered.wait()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    timeouts = {"openai": {"timeouts": {"connect": "2s", "first_byte": "100ms"}}}
    async with open_gateway(store_url, "http://nobody.example", providers=timeouts) as gate:
        books = await open_books(gate)
        await refused(books.post({**HELLO, "stream": stream}), TIMED_OUT)
        answered.set()
        await books.closed(requests=1, tokens=0)


async def test_an_upstreams_words_do_not_tell_its_key(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """A provider that quotes the gateway's key in its refusal is not passed on verbatim."""
    upstream.script(error_json(400, "Key sk-upstream-secret may not do this."))
    error = await refused(
        gateway.post(await gateway.key()), (400, INVALID, None), source="upstream"
    )
    assert error["message"] == "Key *** may not do this."


async def test_a_fault_that_will_not_heal_is_not_retried(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    """Refused credentials are told to operators, and clients are told not to try again."""
    upstream.script(error_json(401, "no"))
    async with gateway.post(await gateway.key()) as answer:
        assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    assert (await gateway.request_line())["cause"] == "401"
