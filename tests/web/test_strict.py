"""Raw requests, byte by byte: what each is answered, and whether its connection goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.gateway import HELLO, Gateway
from tests.scripted import Close, ScriptedUpstream, chat_json, chat_stream
from tests.web.raw import RawClient, chat_request, connected
from tests.web.refusals import refusal

INVALID = "invalid_request_error"
BODY = json.dumps({**HELLO, "stream": False}).encode()
CHUNKED = b"transfer-encoding: chunked\r\n"
KEY = b"vg_the-key-of-the-test"  # replaced by a real one
NEXT = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


def chunk(data: bytes = BODY) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKS = chunk() + b"0\r\n\r\n"


def post(
    *more: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1", body: bytes = BODY
) -> bytes:
    """A chat request with these header lines, and a length unless one of them speaks of it."""
    sized = any(b"transfer-encoding" in each or b"content-length" in each for each in more)
    lines = [
        line + b"\r\n",
        *([] if any(each.startswith(b"host") for each in more) else [b"host: x\r\n"]),
        b"authorization: Bearer " + KEY + b"\r\ncontent-type: application/json\r\n",
        *([] if sized else [b"content-length: %d\r\n" % len(body)]),
        *more,
    ]
    return b"".join(lines) + b"\r\n" + body


def get(target: bytes = b"/v1/models", *more: bytes, version: bytes = b"1.1") -> bytes:
    head = b"GET " + target + b" HTTP/" + version + b"\r\nhost: x\r\nauthorization: Bearer " + KEY
    return head + b"\r\n" + b"".join(more) + b"\r\n"


def in_chunks(body: bytes = CHUNKS, *more: bytes) -> bytes:
    return post(CHUNKED, *more, body=body)


#: What is refused, and with which status; the connection ends with it.
REFUSED: dict[str, tuple[bytes, int]] = {
    # what aiohttp's parser lets through
    "an absolute target": (post(line=b"POST http://x/v1/chat/completions HTTP/1.1"), 400),
    "an absolute target elsewhere": (get(b"https://elsewhere/v1/models"), 400),
    "a fragment": (get(b"/v1/models#x"), 400),
    "gzip, chunked": (post(b"transfer-encoding: gzip, chunked\r\n", body=CHUNKS), 400),
    "gzip, chunked, without use": (
        get(b"/v1/models", b"transfer-encoding: gzip, chunked\r\n") + b"0\r\n\r\n",
        400,
    ),
    "chunks on 1.0": (
        post(CHUNKED, line=b"POST /v1/chat/completions HTTP/1.0", body=CHUNKS),
        400,
    ),
    "chunks on 1.0, without use": (
        get(b"/v1/models", CHUNKED, b"connection: keep-alive\r\n", version=b"1.0") + b"0\r\n\r\n",
        400,
    ),
    "an announced trailer": (
        in_chunks(chunk() + b"0\r\nx-a: b\r\n\r\n", b"trailer: x-a\r\n"),
        400,
    ),
    "a header of bytes": (post(b"x-a: \xff\xfe\r\n"), 400),
    "a header of UTF-8": (post("x-user: Müller\r\n".encode()), 400),
    "a host of bytes": (post(b"host: \xff\r\n"), 400),
    "a length of bytes": (post("content-length: ５\r\n".encode()), 400),
    "connection: authorization": (post(b"connection: authorization\r\n"), 400),
    "connection: close, Content-Length": (post(b"connection: close, Content-Length\r\n"), 400),
    "connection twice": (post(b"connection: close\r\nconnection: x-request-id\r\n"), 400),
    "CONNECT": (b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n", 405),
    "TRACE": (b"TRACE /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 405),
    "HTTP/0.9": (b"GET /v1/models\r\n\r\n", 400),
    "HTTP/2.0": (get(version=b"2.0"), 400),
    # and what it does not
    "HTTP/1.2": (get(version=b"1.2"), 400),
    "HTTP/3": (get(version=b"3"), 400),
    "two hosts": (post(b"host: x\r\nhost: y\r\n"), 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "two content-types": (post(b"content-type: text/plain\r\n"), 400),
    "two lengths alike": (post(b"content-length: %d\r\n" % len(BODY) * 2), 400),
    "a list of lengths": (post(b"content-length: 5, 5\r\n"), 400),
    "a length with a sign": (post(b"content-length: +5\r\n"), 400),
    "a length with an underscore": (post(b"content-length: 1_0\r\n"), 400),
    "a length in hex": (post(b"content-length: 0x5\r\n"), 400),
    "a length without digits": (post(b"content-length: \r\n"), 400),
    "a length beyond 64 bits": (post(b"content-length: 99999999999999999999\r\n"), 400),
    "a length and chunks": (post(b"content-length: 5\r\n", CHUNKED, body=CHUNKS), 400),
    "chunks and a length": (post(CHUNKED, b"content-length: 5\r\n", body=CHUNKS), 400),
    "chunked twice": (post(CHUNKED * 2, body=CHUNKS), 400),
    "xchunked": (post(b"transfer-encoding: xchunked\r\n", body=CHUNKS), 400),
    "chunked, then another": (post(b"transfer-encoding: chunked, gzip\r\n", body=CHUNKS), 400),
    "a vertical tab before chunked": (post(b"transfer-encoding: \x0bchunked\r\n"), 400),
    "a space before the colon": (post(b"transfer-encoding : chunked\r\n", body=CHUNKS), 400),
    "a tab before the colon": (post(b"x-a\t: b\r\n"), 400),
    "no colon": (post(b"x-a\r\n"), 400),
    "no name": (post(b": b\r\n"), 400),
    "a folded line": (post(b"x-a: b\r\n c\r\n"), 400),
    "a NUL": (post(b"x-a: b\0c\r\n"), 400),
    "a control": (post(b"x-a: b\x01\r\n"), 400),
    "a bare CR": (post(b"x-a: b\rc\r\n"), 400),
    "a bare LF": (post(b"x-a: b\nx-b: c\r\n"), 400),
    "bare LFs alone": (post().replace(b"\r\n", b"\n"), 400),
    "a thousand headers": (post(b"x-a: b\r\n" * 1000), 400),
    "a method in lower case": (post(line=b"post /v1/chat/completions HTTP/1.1"), 400),
    "a method that nobody knows": (post(line=b"BREW /v1/chat/completions HTTP/1.1"), 400),
    "a chunk's size with a sign": (in_chunks(b"+" + CHUNKS), 400),
    "a negative chunk": (in_chunks(b"-1\r\n\r\n0\r\n\r\n"), 400),
    "a chunk's size in 0x": (in_chunks(b"0x" + CHUNKS), 400),
    "a chunk's size with an underscore": (in_chunks(b"1_" + CHUNKS), 400),
    "a space before a chunk's size": (in_chunks(b" " + CHUNKS), 400),
    "a space behind a chunk's size": (in_chunks(CHUNKS.replace(b"\r", b" \r", 1)), 400),
    "a chunk beyond 64 bits": (in_chunks(b"f" * 17 + b"\r\n"), 400),
    "a chunk longer than its size": (in_chunks(b"1\r\n{}\r\n0\r\n\r\n"), 400),
    "a bare LF behind a chunk's size": (in_chunks(CHUNKS.replace(b"\r\n", b"\n", 1)), 400),
    "a second host in a trailer": (
        in_chunks(chunk() + b"0\r\nhost: y\r\nx-a: b\r\n\r\n"),
        400,
    ),
    "a bare LF in a chunk's extension": (in_chunks(CHUNKS.replace(b"\r", b";a\nb\r", 1)), 400),
}

#: What is refused or served with an end that is beyond doubt: the connection goes on.
ANSWERED: dict[str, tuple[bytes, int]] = {
    "two keys": (post(b"authorization: Bearer x\r\n"), 401),
    "a key of bytes": (post().replace(KEY, b"\xff\xfe"), 401),
    "gzip that is none": (post(b"content-encoding: gzip\r\n"), 415),
    "two encodings": (post(b"content-encoding: identity\r\ncontent-encoding: gzip\r\n"), 415),
    "another server's methods": (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    "dots": (get(b"/v1/../v1/models"), 404),
    "an encoded slash": (get(b"/v1%2fmodels"), 404),
    "an encoding that is none": (get(b"/v1/%zz"), 404),
    "a query": (post(line=b"POST /v1/chat/completions?a=b HTTP/1.1"), 200),
    "an offer of HTTP/2": (
        post(
            b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
            b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
        ),
        200,
    ),
    "an offer of a web socket": (post(b"connection: upgrade\r\nupgrade: websocket\r\n"), 200),
    "a trace of bytes": (post(b"traceparent: \xff\r\n"), 200),
    "an empty line before it": (b"\r\n" + post(), 200),
}


#: What is served in chunks. Nothing that comes behind them is, since it could be taken for theirs.
LAST: dict[str, bytes] = {
    "chunks": in_chunks(),
    "a chunk's extension": in_chunks(CHUNKS.replace(b"\r", b";a=b\r", 1)),
    "a trailer that nobody announced": in_chunks(
        chunk() + b"0\r\nauthorization: Bearer " + KEY + b"\r\n\r\n"
    ),
    "a trailer of two": in_chunks(
        chunk() + b"0\r\nx-a: b\r\nauthorization: Bearer " + KEY + b"\r\n\r\n"
    ),
    "chunks without use": get(b"/v1/models", CHUNKED) + b"0\r\nx-a: b\r\n\r\n",
}


class Case(NamedTuple):
    gate: Gateway
    key: bytes

    async def send(self, client: RawClient, raw: bytes) -> None:
        await client.send(raw.replace(KEY, self.key))


@pytest.fixture
async def case(gateway: Gateway, upstream: ScriptedUpstream) -> Case:
    upstream.script(chat_json("Hi"))
    return Case(gateway, (await gateway.key()).encode())


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_for_good(case: Case, upstream: ScriptedUpstream, name: str) -> None:
    """It is refused in the envelope, nothing goes upstream, and its connection ends."""
    raw, status = REFUSED[name]
    async with connected(case.gate.url) as client:
        await case.send(client, raw)
        got = await client.answer()
        assert await client.rest() == b""
    code = "method_not_allowed" if status == 405 else None
    refusal(got.status, got.headers, got.body, (status, INVALID, code))
    assert got.version in ("HTTP/1.0", "HTTP/1.1")
    assert got.headers["server"] == "visiongate"
    assert not upstream.requests
    (line,) = case.gate.log_lines()
    assert (line["status"], line["id"]) == (status, got.headers["x-request-id"])
    assert line["reason"] in ("malformed", "method_not_allowed")


@pytest.mark.parametrize("name", ANSWERED)
async def test_answered(case: Case, name: str) -> None:
    """It is answered, and the next request on its connection too: both saw its end there."""
    raw, status = ANSWERED[name]
    async with connected(case.gate.url) as client:
        await case.send(client, raw)
        got = await client.answer()
        assert got.status == status, got.body
        assert got.headers["x-request-id"]
        await client.send(NEXT)
        assert (await client.answer()).body == b'{"status":"ok"}'


@pytest.mark.parametrize("name", LAST)
@pytest.mark.parametrize("apart", [False, True])
async def test_the_last_of_its_connection(case: Case, name: str, apart: bool) -> None:
    """It is answered and says that it was the last: none is served with the key of its trailer."""
    behind = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    async with connected(case.gate.url) as client:
        await case.send(client, LAST[name] + (b"" if apart else behind))
        got = await client.answer()
        assert (got.status, got.headers["connection"]) == (200, "close")
        if apart:
            await client.send(behind)
        with contextlib.suppress(ConnectionResetError):  # it came when nobody read any more
            assert await client.rest() == b""


def bytewise(raw: bytes) -> Iterator[bytes]:
    yield from (raw[i : i + 1] for i in range(len(raw)))


@pytest.mark.parametrize("name", ["an absolute target", "gzip, chunked", "a header of bytes"])
async def test_refused_byte_by_byte(case: Case, name: str) -> None:
    """However the network cuts it, the verdict is the same."""
    raw, status = REFUSED[name]
    async with connected(case.gate.url) as client:
        for byte in bytewise(raw.replace(KEY, case.key).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"):
            client.writer.write(byte)
            await asyncio.sleep(0)  # each in a write of its own
        assert (await client.answer()).status == status


async def test_behind_a_good_request(case: Case) -> None:
    """What follows a good request in its own packet is a request of its own, and judged as one."""
    async with connected(case.gate.url) as client:
        await case.send(client, post() + get(b"http://elsewhere/v1/models") + NEXT)
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


async def test_a_trailer_says_nothing(case: Case, upstream: ScriptedUpstream) -> None:
    """A key or a type that comes behind the body is not taken for one that came before it."""
    body = chunk() + b"0\r\nauthorization: Bearer " + KEY + b"\r\n\r\n"
    async with connected(case.gate.url) as client:
        await case.send(client, in_chunks(body).replace(b"Bearer " + KEY, b"Bearer vg_x", 1))
        assert (await client.answer()).status == 401
    assert not upstream.requests


async def test_a_refusal_says_what_is_wrong(case: Case) -> None:
    """It names the header and not its value, which may be a secret."""
    async with connected(case.gate.url) as client:
        await case.send(client, post("x-user: Müller\r\n".encode()))
        message = json.loads((await client.answer()).body)["error"]["message"]
    assert "'x-user'" in message
    assert "ller" not in message + case.gate.log.getvalue()


async def test_http_1_0_may_keep_its_connection(case: Case) -> None:
    """Where it asks for it, and the answer has a length; else the connection ends with it."""
    line = b"POST /v1/chat/completions HTTP/1.0"
    async with connected(case.gate.url) as client:
        for _ in range(2):
            await case.send(client, post(b"connection: keep-alive\r\n", line=line))
            got = await client.answer()
            assert (got.version, got.status) == ("HTTP/1.0", 200)
            assert got.headers["connection"] == "keep-alive"
        await case.send(client, post(line=line))
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("well", [True, False])
async def test_a_stream_of_http_1_0_ends_with_its_connection(
    case: Case, upstream: ScriptedUpstream, well: bool
) -> None:
    """Whatever it asks for: a complete one with a FIN, a broken one with a reset."""
    steps = chat_stream(["Hi"])
    upstream.script(steps if well else [*steps[:2], Close()])
    key = case.key.decode()
    async with connected(case.gate.url) as first, connected(case.gate.url) as client:
        await case.send(first, post())  # takes the fixture's script
        assert (await first.answer()).status == 200
        await client.send(chat_request(key, version="1.0", connection="keep-alive"))
        head = await client.head()
        assert (head.version, head.status) == ("HTTP/1.0", 200)
        assert not {"connection", "transfer-encoding", "content-length"} & head.headers.keys()
        if well:
            assert (await client.rest()).endswith(b"data: [DONE]\n\n")
        else:
            with pytest.raises(ConnectionResetError):
                await client.rest()
