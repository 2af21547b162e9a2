"""A stream whose first event is an error: a failure like any other, before the first byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.web import attempts
from proxy.web.pulse import COMMENT
from tests.gateway import events, open_gateway
from tests.scripted import (
    End,
    Head,
    Pause,
    ScriptedUpstream,
    Send,
    Sleep,
    Split,
    Step,
    chat_stream,
    sse,
)
from tests.web.books import open_books
from tests.web.raw import chat_request, connected, unchunked
from tests.web.refusals import refused
from tests.web.two import SERVED, USAGE, open_two

HANG = Sleep(60)
INVALID = "invalid_request_error"
FAILED = (502, "server_error", None)
ANTHROPIC = {"openai": {"kind": "anthropic"}}


def told(**error: Any) -> bytes:
    return sse({"error": error})


def vendor(type: str, message: str) -> bytes:
    """As Anthropic writes it."""
    error = {"type": "error", "error": {"type": type, "message": message}}
    return b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"


#: What comes first; the status, type and code that the client sees; a word of its message.
OPENAI: dict[str, tuple[bytes, tuple[int, str, str | None], str]] = {
    "a 5xx of OpenAI's": (
        told(message="Overloaded.", type="server_error", param=None, code=None),
        FAILED,
        "with an error: Overloaded.",
    ),
    "a rate limit": (
        told(message="Slow.", type="requests", param=None, code="rate_limit_exceeded"),
        (429, "requests", "rate_limit_exceeded"),
        "Slow.",
    ),
    "a spent quota": (
        told(message="Pay.", type="insufficient_quota", param=None, code="insufficient_quota"),
        (429, "insufficient_quota", "insufficient_quota"),
        "Pay.",
    ),
    "a context too long": (
        told(message="Long.", type=INVALID, param="messages", code="context_length_exceeded"),
        (400, INVALID, "context_length_exceeded"),
        "Long.",
    ),
    "OpenRouter's numbers": (
        b": OPENROUTER PROCESSING\n\n"
        + sse({"id": "g", "choices": [], "error": {"code": 429, "message": "Limited."}}),
        (429, "requests", "rate_limit_exceeded"),
        "Limited.",
    ),
    "a number for our own account": (
        told(message="sk-upstream-secret is bad", code=401),
        FAILED,
        "credentials",
    ),
    "Gemini's word for our own account": (
        told(message="sk-upstream is bad", code=400, details=[{"reason": "API_KEY_INVALID"}]),
        FAILED,
        "credentials",
    ),
    "a number of no 4xx": (told(message="Gone.", code=503), FAILED, "with an error: Gone."),
    "older vLLM's": (
        sse({"object": "error", "message": "Too long.", "type": "BadRequestError", "code": 400}),
        (400, "BadRequestError", None),
        "Too long.",
    ),
    "text alone": (sse({"error": "no memory"}), FAILED, "with an error: no memory"),
    "no words": (sse({"error": {"x": 1}}), FAILED, ""),
    "our key in its words": (
        told(message="Key sk-upstream-secret is slow.", code=429),
        (429, "requests", "rate_limit_exceeded"),
        "Key *** is slow.",
    ),
}


@pytest.mark.parametrize("rest", [[End()], [Send(sse("[DONE]")), End()], [HANG]])
@pytest.mark.parametrize("name", OPENAI)
async def test_an_error_first(
    store_url: str, upstream: ScriptedUpstream, name: str, rest: list[Step]
) -> None:
    """It is an answer with the status that it stands for, whatever follows it, and is refunded."""
    first, expected, word = OPENAI[name]
    upstream.script([Head(), Send(first), *rest])
    source = "gateway" if expected == FAILED else "upstream"
    async with open_gateway(store_url, upstream.url) as gate:
        books = await open_books(gate)
        error = await refused(books.post(), expected, source=source)
        assert word in error["message"]
        assert "sk-upstream" not in str(error)
        line = await gate.request_line()
        assert line["status"] == expected[0]
        await books.closed(requests=1, tokens=0)


@pytest.mark.parametrize(
    ("first", "expected", "word"),
    [
        (vendor("overloaded_error", "Overloaded"), FAILED, "with an error: Overloaded"),
        (vendor("api_error", "Internal"), FAILED, "with an error: Internal"),
        (vendor("authentication_error", "sk-upstream-secret"), FAILED, "credentials"),
        (
            vendor("rate_limit_error", "Slow, sk-upstream-secret"),
            (429, "requests", "rate_limit_exceeded"),
            "Slow, ***",
        ),
        (
            vendor(INVALID, "prompt is too long: 3 tokens"),
            (400, INVALID, "context_length_exceeded"),
            "too long",
        ),
    ],
)
@pytest.mark.parametrize("ping", [True, False])
async def test_an_error_of_anthropics_first(
    store_url: str, upstream: ScriptedUpstream, first: bytes, expected: Any, word: str, ping: bool
) -> None:
    """So is the vendor's, before its message has begun, also after a ping."""
    before = b'event: ping\ndata: {"type": "ping"}\n\n' if ping else b""
    upstream.script([Head(), Split(before + first, [5, 40]), HANG])
    source = "gateway" if expected == FAILED else "upstream"
    async with open_gateway(store_url, upstream.url, providers=ANTHROPIC) as gate:
        books = await open_books(gate)
        error = await refused(books.post(), expected, source=source)
        assert word in error["message"]
        assert "sk-upstream" not in str(error)
        await books.closed(requests=1, tokens=0)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_an_error_after_a_comment_of_ours(
    store_url: str, upstream: ScriptedUpstream, kind: str
) -> None:
    """Where we have begun the stream it is an event, in the upstream's words."""
    limited = told(message="Slow, sk-upstream-secret.", type="requests", code="rate_limit_exceeded")
    if kind == "anthropic":
        limited = vendor("rate_limit_error", "Slow, sk-upstream-secret.")
    failed = asyncio.Event()
    upstream.script([Head(), Pause(failed), Send(limited), HANG])
    server, providers = {"stream_keep_alive": "50ms"}, {"openai": {"kind": kind}}
    async with (
        open_gateway(store_url, upstream.url, server=server, providers=providers) as gate,
        connected(gate.url) as client,
    ):
        await client.send(chat_request(await gate.key()))
        assert (await client.head()).status == 200
        failed.set()
        (error,) = events(unchunked(await client.rest()).replace(COMMENT, b""))
        assert error["error"]["message"] == "Slow, ***."
        assert error["error"]["code"] == "rate_limit_exceeded"
        line = await gate.request_line()
        assert (line["ended"], line["cause"]) == ("upstream_refused", "429")


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
@pytest.mark.parametrize(
    "name", ["a 5xx of OpenAI's", "a rate limit", "OpenRouter's numbers", "text alone"]
)
async def test_another_target_is_asked(store_url: str, transport: str, name: str) -> None:
    """Where another target may do better it is asked, and the client sees nothing of the first;
    what that has told of usage or text is not charged.
    """
    first = OPENAI[name][0].replace(b"}\n\n", b',"usage":{"prompt_tokens":99}}\n\n')
    async with open_two(store_url, transport=transport) as two:
        two.one.script([Head(), Split(first, [30]), End()])
        two.two.script(chat_stream(["Hi"], USAGE))
        async with two.books.post() as answer:
            assert (answer.status, events(await answer.read())[-1]) == (200, "[DONE]")
        assert two.asked == (1, 1)
        assert await two.rows() == {"two": SERVED["two"]}
        assert await two.attempts() == {("one", "maybe_billed"): 1, ("two", "complete"): 1}


async def test_a_context_that_is_too_long_is_nobodys_fault(store_url: str) -> None:
    """What no other target would do better at is told at once, and no breaker counts it."""
    async with open_two(store_url) as two:
        two.one.script([Head(), Send(OPENAI["a context too long"][0]), End()])
        assert await two.ask() == 400
        assert two.asked == (1, 0)
        assert two.standing("one").breaker._streak == 0


async def test_a_limited_key_steps_aside(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is limited in a first event steps aside as one that is in a 429."""
    monkeypatch.setattr(attempts, "_BACKOFF", 0.02)
    keys = {"one": {"api_key": None, "api_keys": ["sk-a", "sk-b"]}}
    models = {"gpt-4o": {"targets": [{"provider": "one"}]}}
    async with open_two(store_url, providers=keys, models=models) as two:
        two.one.script([Head(), Send(OPENAI["a rate limit"][0]), End()])
        two.one.script(chat_stream(["Hi"], USAGE))
        assert await two.ask() == 200
        used = [request.header("authorization") for request in two.one.requests]
        assert sorted(map(str, used)) == ["Bearer sk-a", "Bearer sk-b"]


#: What comes in mid-stream, and the error that the client gets.
LATER: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a part of the envelope": (
        told(message="Overloaded."),
        {"message": "Overloaded.", "type": "server_error", "param": None, "code": None},
    ),
    "numbers": (
        sse({"id": "g", "choices": [], "error": {"code": 502, "message": "Gone."}}),
        {"message": "Gone.", "type": "server_error", "param": None, "code": None},
    ),
    "text": (
        sse({"error": "no memory"}),
        {"message": "no memory", "type": "server_error", "param": None, "code": None},
    ),
    "over several lines": (
        b'event: error\r\ndata: {"error":\r\ndata: {"message": "Gone."}}\r\n\r\n',
        {"message": "Gone.", "type": "server_error", "param": None, "code": None},
    ),
    "older vLLM's": (
        sse({"object": "error", "message": "Gone.", "type": "InternalServerError", "code": 500}),
        {"message": "Gone.", "type": "InternalServerError", "param": None, "code": None},
    ),
    "our key in its words": (
        told(message="Key sk-upstream-secret", type="x", param=None, code=None),
        {"message": "Key ***", "type": "x", "param": None, "code": None},
    ),
}
WORD = {"choices": [{"index": 0, "delta": {"content": "Hello there"}, "finish_reason": None}]}


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("rest", [[End()], [Send(sse(WORD, "[DONE]")), End()], [HANG]])
@pytest.mark.parametrize("name", LATER)
async def test_an_error_in_mid_stream(
    store_url: str, upstream: ScriptedUpstream, name: str, rest: list[Step], together: bool
) -> None:
    """It reaches the client at once and in OpenAI's form; nothing comes after it, neither text nor
    an end mark nor a clean end, and what came before it is charged.
    """
    error, expected = LATER[name]
    text = sse(WORD)
    upstream.script(
        [Head(), *([Send(text + error)] if together else [Send(text), Send(error)]), *rest]
    )
    async with open_gateway(store_url, upstream.url) as gate:
        books = await open_books(gate)
        async with connected(gate.url) as client, asyncio.timeout(3):
            await client.send(chat_request(books.key))
            assert (await client.head()).status == 200
            body = unchunked(await client.rest())
        assert body.startswith(text)
        (last,) = events(body.removeprefix(text))
        found = {name: last["error"][name] for name in expected}
        assert (last.keys(), found) == ({"error"}, expected)
        line = await gate.request_line()
        assert (line["ended"], line["output_tokens"]) == ("upstream_failed", 2)
        assert line["cause"] == {"numbers": "502", "older vLLM's": "500"}.get(name, "")
        await books.closed(requests=1, tokens=line["input_tokens"] + 2)
