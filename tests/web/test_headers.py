"""Headers, each way: what passes, and that nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from multidict import CIMultiDict

from proxy.providers.headers import passed_down, passed_up, waiting
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import (
    End,
    Head,
    Reset,
    ScriptedUpstream,
    Send,
    chat_json,
    chat_stream,
    error_json,
    sse,
)
from tests.web.raw import Answer, RawClient, chat_request, connected

SECRET = "sk-upstream-secret"

#: What a client may try to have passed on.
HOSTILE = {
    **dict.fromkeys(("cookie", "x-api-key", "api-key", "proxy-authorization"), "mine"),
    **dict.fromkeys(("openai-organization", "openai-project", "anthropic-version"), "mine"),
    **dict.fromkeys(("x-forwarded-for", "x-real-ip", "forwarded", "via"), "192.0.2.1"),
    "te": "trailers",
    "keep-alive": "timeout=5",
    "accept-encoding": "gzip",
    "range": "bytes=0-",
    "user-agent": "mine",
    "x-http-method-override": "DELETE",
    "idempotency-key": "k",
    "upgrade": "h2c",
    "connection": "keep-alive, upgrade",
    "origin": "https://x",
}
TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}

#: What every provider gets, and no more.
UP = {
    *("host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"),
    *("authorization", "x-request-id", "traceparent", "tracestate"),
}

#: What an upstream may say, and what becomes of it.
TOLD = (
    ("Set-Cookie", "a=b"),
    ("X-RateLimit-Remaining-Tokens", "7"),
    ("OpenAI-Organization", "the-platform-team"),
    ("Server", "provider"),
    ("Via", "1.1 inner"),
    ("Keep-Alive", "timeout=5"),
    ("Connection", "keep-alive"),
    ("Trailer", "x-a"),
    ("Location", "https://elsewhere/"),
    ("X-Visiongate-Source", "gateway"),
    ("Access-Control-Allow-Origin", "*"),
    ("OpenAI-Processing-Ms", "128"),
    ("X-Request-Id", "req_upstream"),
)

#: What every answer says, beside `passed` from TOLD.
OWN = {"content-type", "date", "server", "x-request-id", "x-visiongate-source"}
PASSED = {"openai-processing-ms": "128", "x-upstream-request-id": "req_upstream"}


@pytest.fixture(params=["direct", "aiohttp"])
async def gate(
    request: pytest.FixtureRequest, store_url: str, upstream: ScriptedUpstream
) -> AsyncIterator[Gateway]:
    """A gateway by either transport."""
    providers = {"openai": {"transport": request.param}}
    async with open_gateway(store_url, upstream.url, providers=providers) as opened:
        yield opened


async def ask(gate: Gateway, *, stream: bool) -> Answer:
    """An answer's head."""
    async with connected(gate.url) as client:
        return await asked(client, await gate.key(), stream=stream)


async def asked(client: RawClient, key: str, *, stream: bool, **more: str) -> Answer:
    await client.send(chat_request(key, {**HELLO, "stream": stream}, **more))
    return await client.head()


async def test_what_goes_up(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The provider gets what is on the list, with our values, whatever the client sends."""
    upstream.script(chat_json("Hi"))
    key = await gate.key()
    async with connected(gate.url) as client:
        sent = {**HOSTILE, **TRACE, "x-request-id": "mine-1"}
        named = {name.replace("-", "_"): value for name, value in sent.items()}
        assert (await asked(client, key, stream=False, **named)).status == 200
    (got,) = upstream.requests
    names = [name.lower() for name, _ in got.headers]
    assert len(names) == len(set(names))
    assert set(names) == UP - {"tracestate"}
    assert got.header("authorization") == f"Bearer {SECRET}"
    assert got.header("user-agent") == "visiongate"
    assert got.header("accept-encoding") == "identity"
    assert got.header("x-request-id") == "mine-1"
    assert got.header("traceparent") == TRACE["traceparent"]
    assert key not in str(got.headers)


@pytest.mark.parametrize("given", ["", "a b", "a" * 129, "<script>", "a\tb", "req_\xff", "vg_K"])
async def test_an_id_of_the_clients_that_is_none(
    gateway: Gateway, upstream: ScriptedUpstream, given: str
) -> None:
    """One that is no plain word, or a key of ours, is replaced, up and down alike; one that is no
    ASCII is refused.
    """
    upstream.script(chat_json("Hi"))
    async with connected(gateway.url) as client:
        head = await asked(client, await gateway.key(), stream=False, x_request_id=given)
    made = head.headers["x-request-id"]
    assert made.startswith("req_")
    assert made.isascii()
    good = given.isascii()
    assert head.status == (200 if good else 400)
    assert [sent.header("x-request-id") for sent in upstream.requests] == [made] * good


@pytest.mark.parametrize("stream", [True, False])
async def test_what_comes_down(gate: Gateway, upstream: ScriptedUpstream, stream: bool) -> None:
    """Of the provider's headers the client gets those on the list; the rest is ours."""
    upstream.script(chat_stream(["Hi"], headers=TOLD) if stream else chat_json("Hi", headers=TOLD))
    head = await ask(gate, stream=stream)
    framing = {"cache-control", "x-accel-buffering", "transfer-encoding"}
    assert head.headers.keys() == OWN | PASSED.keys() | (framing if stream else {"content-length"})
    assert PASSED.items() <= head.headers.items()
    assert head.headers["server"] == "visiongate"
    assert head.headers["x-request-id"] != "req_upstream"
    assert head.headers["x-visiongate-source"] == "upstream"
    assert (await gate.request_line())["upstream_id"] == "req_upstream"


@pytest.mark.parametrize(
    ("status", "expected", "more"),
    [
        (400, 400, {"retry-after"}),
        (429, 429, {"retry-after"}),
        (401, 502, {"x-should-retry"}),
        (500, 502, set()),
        (307, 502, {"x-should-retry"}),
    ],
)
async def test_what_comes_down_beside_an_error(
    gate: Gateway, upstream: ScriptedUpstream, status: int, expected: int, more: set[str]
) -> None:
    """So it is where the provider refuses, and where it fails: its id is what support asks for."""
    waiting = (("Retry-After", "20"), ("WWW-Authenticate", "Bearer"))
    upstream.script(error_json(status, "no", headers=(*TOLD, *waiting)))
    head = await ask(gate, stream=True)
    assert head.status == expected
    assert head.headers.keys() == OWN | PASSED.keys() | {"content-length"} | more
    assert PASSED.items() <= head.headers.items()


async def test_the_id_of_an_attempt_before(store_url: str, upstream: ScriptedUpstream) -> None:
    """Where another target answers, nothing is told of the one that failed."""
    upstream.script([Head(headers=(("Content-Type", "text/event-stream"), *TOLD[-2:])), End()])
    upstream.script(chat_stream(["Hi"]))
    other = {"base_url": upstream.url, "api_key": SECRET, "image_urls": "forward"}
    targets = [{"provider": "openai"}, {"provider": "other"}]
    changes = {
        "providers": {"other": other},
        "models": {"gpt-4o": {"targets": targets, "retries": 1}},
    }
    async with open_gateway(store_url, upstream.url, **changes) as gate:
        head = await ask(gate, stream=True)
        assert (head.status, len(upstream.requests)) == (200, 2)
        assert not PASSED.keys() & head.headers.keys()
        assert "upstream_id" not in await gate.request_line()


async def test_the_id_of_a_stream_that_broke(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """It is in the log's line of a stream that the provider broke off."""
    head = Head(headers=(("Content-Type", "text/event-stream"), ("X-Request-Id", "req_up")))
    upstream.script([head, Send(sse({"choices": []})), Reset()])
    assert (await ask(gate, stream=True)).status == 200
    line = await gate.request_line()
    assert (line["upstream_id"], line["ended"]) == ("req_up", "upstream_failed")


@pytest.mark.parametrize("value", ["a b", "", "x" * 129, "req_\xff", SECRET, f"a-{SECRET}-b"])
@pytest.mark.parametrize("status", [200, 429])
async def test_an_id_of_the_providers_that_is_none(
    gate: Gateway, upstream: ScriptedUpstream, value: str, status: int
) -> None:
    """What is no plain word, or holds the provider's key, stays here; the answer passes."""
    headers = (("X-Request-Id", value), ("Retry-After", value))
    upstream.script(
        chat_json("Hi", headers=headers)
        if status == 200
        else error_json(429, "slowly", headers=headers)
    )
    head = await ask(gate, stream=False)
    assert head.status == status
    assert not {"x-upstream-request-id", "retry-after"} & head.headers.keys()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_redirect_leads_nowhere(
    gate: Gateway, upstream: ScriptedUpstream, status: int, stream: bool
) -> None:
    """Nothing is sent to where an upstream points, and its key least of all."""
    async with ScriptedUpstream() as elsewhere:
        elsewhere.script(chat_json("Hi"))
        there = ("Location", f"{elsewhere.url}/chat/completions")
        upstream.script([Head(status, (there,)), End()])
        assert (await ask(gate, stream=stream)).status == 502
        await gate.idle()
        assert (elsewhere.connections, len(upstream.requests)) == (0, 1)


async def test_a_401_says_what_is_asked_for(gateway: Gateway) -> None:
    """RFC 9110 section 15.5.2: a 401 names the scheme."""
    for key in (None, "vg_wrong"):
        async with gateway.post(key) as answer:
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_trace_in_two_lines_is_one() -> None:
    """RFC 9110 section 5.3: the lines of a list are one list; what is too long is left out."""
    came = CIMultiDict([("tracestate", "a=1"), ("tracestate", "b=2"), ("traceparent", "x" * 513)])
    assert passed_up(came) == {"tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        *(("20", True), ("0.5", True), ("true", True), ("Mon, 23 Nov 2026 08:49:37 GMT", True)),
        *(("-1", False), ("1e9", False), ("soon", False), ("20, 20", False), ("1" * 11, False)),
    ],
)
def test_a_time_to_come_again(value: str, passes: bool) -> None:
    """What passes is what an SDK can read."""
    assert waiting({"retry-after": value}) == ({"retry-after": value} if passes else {})


def test_the_first_of_the_ids_is_told() -> None:
    """Where a provider, and what stands before it, both tell one, one is told."""
    came = {"apim-request-id": "azure", "x-request-id": "openai"}
    assert passed_down(came, None) == {"x-upstream-request-id": "openai"}
