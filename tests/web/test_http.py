"""The HTTP around a request: bodies too large or unfinished, expectations, and what is no HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.web.record import shown
from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_json
from tests.web.raw import chat_request, connected
from tests.web.refusals import refusal

INVALID = "invalid_request_error"
KEY_ERROR = (401, INVALID, "invalid_api_key")
TOO_LARGE = (413, INVALID, "request_too_large")
LIMIT = 64 * 1024


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    """A gateway that takes small bodies only."""
    async with open_gateway(store_url, upstream.url, server={"max_body": "64KiB"}) as opened:
        yield opened


def chunked(key: str | None, **more: str) -> bytes:
    """The head of a request whose body comes in chunks."""
    return chat_request(key, b"", content_length="", transfer_encoding="chunked", **more)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_a_body_too_large_by_its_length(gate: Gateway) -> None:
    """A length over max_body is refused before a byte of the body."""
    async with connected(gate.url) as client:
        await client.send(chat_request(await gate.key(), b"", content_length=str(LIMIT + 1)))
        got = await client.answer()
    error = refusal(got.status, got.headers, got.body, TOO_LARGE)
    assert "0.0625 MiB" in error["message"]


async def test_a_body_too_large_in_chunks(gate: Gateway) -> None:
    """A body without a length is refused once it is too large, though it never ends."""
    async with connected(gate.url) as client:
        await client.send(chunked(await gate.key()), chunk(b" " * LIMIT))
        await client.send(chunk(b"{"))
        got = await client.answer()
    refusal(got.status, got.headers, got.body, TOO_LARGE)


async def test_a_body_of_just_the_limit(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """max_body itself is still taken."""
    upstream.script(chat_json("Hi"))
    text = json.dumps({**HELLO, "stream": False}).encode()
    async with gate.post(await gate.key(), text.ljust(LIMIT)) as answer:
        assert answer.status == 200


async def test_a_refused_upload_leaves_the_connection_usable(gate: Gateway) -> None:
    """A client that sends its whole body all the same may go on with the connection."""
    key = await gate.key()
    async with connected(gate.url) as client:
        await client.send(chat_request(key, b" " * (LIMIT + 1)))
        assert (await client.answer()).status == 413
        await client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer()).status == 401


async def test_a_bad_key_is_refused_before_the_body(gate: Gateway) -> None:
    """A huge body that never comes does not delay the refusal of a bad key."""
    async with connected(gate.url) as client:
        await client.send(chat_request("vg_wrong", b"{", content_length=str(LIMIT - 1)))
        got = await client.answer()
    refusal(got.status, got.headers, got.body, KEY_ERROR)


async def test_an_expectation_is_met_once_the_key_is_right(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """`Expect: 100-continue` is answered when the body is wanted, and the request goes on."""
    upstream.script(chat_json("Hi"))
    body = json.dumps({**HELLO, "stream": False}).encode()
    request = chat_request(await gate.key(), body, expect="100-continue")
    async with connected(gate.url) as client:
        await client.send(request.removesuffix(body))
        assert (await client.head()).status == 100
        await client.send(body)
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("key", "length", "expected"),
    [("vg_wrong", 10, KEY_ERROR), (None, 10, KEY_ERROR), ("right", LIMIT + 1, TOO_LARGE)],
)
async def test_an_expectation_is_not_met_for_a_refusal(
    gate: Gateway, key: str | None, length: int, expected: tuple[int, str, str]
) -> None:
    """A refused client is not asked for its body, and its connection is closed."""
    secret = await gate.key() if key == "right" else key
    async with connected(gate.url) as client:
        await client.send(
            chat_request(secret, b"", content_length=str(length), expect="100-continue")
        )
        got = await client.answer()
    refusal(got.status, got.headers, got.body, expected)
    assert got.headers["connection"] == "close"


async def test_an_unknown_expectation(gate: Gateway) -> None:
    """What nobody can expect is passed over where a key is to be looked at, as RFC 9110 allows."""
    async with connected(gate.url) as client:
        await client.send(chat_request("vg_wrong", expect="miracles"))
        got = await client.answer()
    refusal(got.status, got.headers, got.body, KEY_ERROR)


@pytest.mark.parametrize("path", ["/v1/models", "/nowhere"])
async def test_an_unknown_expectation_elsewhere(gate: Gateway, path: str) -> None:
    """On other routes it is a 417 in the envelope."""
    async with connected(gate.url) as client:
        await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nexpect: miracles\r\n\r\n".encode())
        got = await client.answer()
    error = refusal(got.status, got.headers, got.body, (417, INVALID, None))
    assert "100-continue" in error["message"]


MALFORMED = {
    "no http": b"hello\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
    "a bad length": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a length and chunks": (
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    ),
    "a long line": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nx: " + b"a" * 10_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    "nul in a header": b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("listener", ["url", "admin"])
async def test_what_is_no_http(gate: Gateway, name: str, listener: str) -> None:
    """Bytes that are no HTTP get a 400 in the envelope, and then the connection's end."""
    async with connected(getattr(gate, listener)) as client:
        await client.send(MALFORMED[name])
        got = await client.answer()
        assert await client.rest() == b""
    refusal(got.status, got.headers, got.body, (400, INVALID, None))


async def test_what_is_no_http_is_logged_without_its_bytes(
    gate: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """One line tells of a malformed request, and neither our log nor aiohttp's quotes it."""
    async with connected(gate.url) as client:
        await client.send(b"POST /v1 HTTP/1.1\r\nx-secret-word : x\r\n\r\n")
        assert (await client.answer()).status == 400
    (line,) = gate.log_lines()
    assert (line["status"], line["reason"]) == (400, "malformed")
    assert "secret-word" not in gate.log.getvalue()
    assert not caplog.records


async def test_malformed_chunks(gate: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """A body whose chunks cannot be read is a 400, and the connection ends."""
    async with connected(gate.url) as client:
        await client.send(chunked(await gate.key()), b"zz\r\nnot a chunk\r\n")
        got = await client.answer()
    refusal(got.status, got.headers, got.body, (400, INVALID, None))
    assert not caplog.records


@pytest.mark.parametrize(
    ("version", "coding"),
    [("1.1", "gzip, chunked"), ("1.1", "gzip"), ("1.1", "identity"), ("1.0", "chunked")],
)
async def test_a_transfer_coding_that_two_servers_may_read_otherwise(
    gate: Gateway, upstream: ScriptedUpstream, version: str, coding: str
) -> None:
    """Any transfer coding but `chunked` on HTTP/1.1 is refused, and the connection closed."""
    body = chunk(json.dumps({**HELLO, "stream": False}).encode()) + b"0\r\n\r\n"
    head = chat_request(
        await gate.key(),
        b"",
        version=version,
        content_length="",
        transfer_encoding=coding,
        connection="keep-alive",
    )
    async with connected(gate.url) as client:
        await client.send(head, body)
        got = await client.answer()
        assert await client.rest() == b""
    refusal(got.status, got.headers, got.body, (400, INVALID, None))
    assert not upstream.requests


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://elsewhere/v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
        b"GET //elsewhere/../x HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
    ids=["bytes", "absolute", "asterisk", "upgrade", "slashes"],
)
async def test_odd_targets(gate: Gateway, raw: bytes) -> None:
    """A target that is HTTP but none of ours is refused like any other."""
    async with connected(gate.url) as client:
        await client.send(raw)
        got = await client.answer()
    error = json.loads(got.body)["error"]
    assert got.status in (400, 404)
    refusal(got.status, got.headers, got.body, (got.status, INVALID, error["code"]))


def test_a_path_that_no_encoding_has_is_shown_escaped() -> None:
    """aiohttp's parser in Python lets bytes outside ASCII through, as surrogates."""
    assert shown("/\udcff" + "a" * 200) == "/\\udcff" + "a" * 126


WORDS = st.sampled_from(["model", "messages", "content", "type", "text", "image_url", "url"])
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)


BODIES = st.binary(max_size=200) | st.recursive(JSON, nested, max_leaves=10).map(
    lambda value: json.dumps(value).encode()
)


async def test_no_body_is_a_fault_of_ours(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """Whatever a body holds that is no chat request, the answer is a 400 in the envelope."""
    key = await gate.key()
    bodies: list[bytes] = []

    @settings(max_examples=80, deadline=None, database=None, derandomize=True)
    @given(BODIES)
    def collect(body: bytes) -> None:
        bodies.append(body)

    collect()
    assert len(bodies) > 40
    for body in bodies:
        async with gate.post(key, body) as answer:
            got = await answer.read()
            code = json.loads(got)["error"]["code"]
            status = 404 if code == "model_not_found" else 400
            refusal(answer.status, answer.headers, got, (status, INVALID, code))
    assert not upstream.requests
