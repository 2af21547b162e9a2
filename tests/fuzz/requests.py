"""Raw requests that nobody would write: how they are made, sent, and what must be true of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from proxy.providers.headers import UP
from proxy.upstream.call import OWN_HEADERS
from tests.gateway import HELLO
from tests.scripted import Recorded, Script, chat_json, chat_stream
from tests.web.raw import chat_request
from tests.web.test_strict import ANSWERED, KEY, LAST, REFUSED

#: Seconds within which each has its answer, or its connection's end.
DEADLINE: Final = 10.0

_TOKENS: Final = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"\0", b"\xff", b"\x0b"),
    *(b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"content-length: 0\r\n"),
    *(b"expect: 100-continue\r\n", b"connection: close\r\n", b"upgrade: websocket\r\n"),
    *(b"content-encoding: gzip\r\n", b"host: x\r\n", b"trailer: x\r\n", b"x" * 9000),
    *(b"GET /v1/models HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HEAD ", b"CONNECT ", b"http://", b"%00"),
    *(b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1", b"+", b"0x", b"9" * 30, b"null", b"[", b"{}"),
    *(b'"stream":true', b'"n":1e99', b"\\ud800", "é".encode(), b"data:image/png;base64,AAAA"),
)


_HEADERS: Final = (
    *(b"x-a: b", b"x-request-id: mine", b"traceparent: 00-a", b"connection: keep-alive", b"te: x"),
    *(b"connection: close", b"connection: upgrade, x-a", b"upgrade: h2c", b"expect: 100-continue"),
    *(b"accept-encoding: gzip", b"cookie: a=b", b"x-forwarded-for: 127.0.0.1", b"accept: */*"),
    *(b"content-encoding: identity", b"x-a: \xe9", b"authorization: Bearer x", b"x-a:", b"a: " * 9),
)
_VALUES: Final = (
    *(
        b"null",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"[]",
        b"{}",
        b'""',
        b"true",
        b"[" * 2000,
        b'"\\ud800"',
    ),
    *('"é"'.encode(), b'"data:image/png;base64,AAAA"', b'"gpt-4o-mini"', b'{"a":1,"a":2}', b"0.5"),
)


def corpus(key: str) -> list[bytes]:
    """Requests to begin with: good ones, more often, and those of the tests."""
    image = {"type": "image_url", "image_url": {"url": "https://pub.example/a.png"}}
    parts = [{"type": "text", "text": "Hi"}, image]
    usual = {**HELLO, "messages": [{"role": "user", "content": parts}]}
    good = [
        chat_request(key),
        chat_request(key, usual),
        chat_request(key, {**HELLO, "stream": False}, version="1.0"),
        chat_request(key, connection="keep-alive", x_request_id="mine", traceparent="00-a-b-01"),
        *(raw.replace(KEY, key.encode()) for raw, _ in ANSWERED.values()),
        *(raw.replace(KEY, key.encode()) for raw in LAST.values()),
        *(
            f"{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode()
            for line in ("GET /v1/usage", "HEAD /v1/models", "GET /healthz", "DELETE /v1/x?y#z")
        ),
    ]
    return good * 6 + [raw.replace(KEY, key.encode()) for raw, _ in REFUSED.values()]


Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def _cut(rng: random.Random, raw: bytes) -> tuple[int, int]:
    start = rng.randrange(len(raw) + 1)
    return start, min(len(raw), start + rng.choice((1, 1, 2, 4, 16, 200)))


def _insert(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.choice(_TOKENS) + raw[at:]


def _replace(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, raw)
    return raw[:start] + rng.randbytes(rng.randrange(4)) + raw[end:]


def _drop(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, raw)
    return raw[:start] + raw[end:]


def _double(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _cut(rng, raw)
    return raw[:end] + raw[start:]


def _flip(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    if not raw:
        return raw
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]


def _lines(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """A line twice, elsewhere or no more."""
    lines = raw.split(b"\r\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\r\n".join(lines)


def _splice(rng: random.Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other)) :]


def _follow(rng: random.Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    return raw + rng.choice(others)


def _header(rng: random.Random, raw: bytes, _: Sequence[bytes]) -> bytes:
    """One more, where headers stand."""
    lines = raw.split(b"\r\n")
    lines.insert(1 + rng.randrange(max(1, min(6, len(lines) - 2))), rng.choice(_HEADERS))
    return b"\r\n".join(lines)


def _body(rng: random.Random, raw: bytes, others: Sequence[bytes]) -> bytes:
    """Another body, of the length that is told."""
    head, end, body = raw.partition(b"\r\n\r\n")
    length = b"content-length: %d" % len(body)
    if rng.randrange(2):
        values = list(re.finditer(rb'(?<=": )("[^"]*"|\d+|true|false)', body))
        if values:
            start, stop = rng.choice(values).span()
            body = body[:start] + rng.choice(_VALUES) + body[stop:]
    else:
        body = rng.choice((_replace, _drop, _double, _flip))(rng, body, others)
    return head.replace(length, b"content-length: %d" % len(body)) + end + body


_CHANGES: Final[tuple[Change, ...]] = (
    *(_header, _header, _header, _body, _body, _body, _insert, _insert, _replace, _drop, _double),
    *(_flip, _lines, _splice, _follow),
)


def mutants(seed: int, requests: Sequence[bytes]) -> Iterator[bytes]:
    """Requests, changed in one to four places, for ever; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        raw = rng.choice(requests)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            raw = rng.choice(_CHANGES)(rng, raw, requests)
        yield raw


def upstream_script(seen: list[Recorded]) -> Callable[[Recorded], Script]:
    """Answers as it is asked, and finds whatever has no business upstream."""
    passed = {*OWN_HEADERS, *UP, "host", "content-length", "authorization", "x-request-id"}

    def answer(asked: Recorded) -> Script:
        seen.clear()  # the upstream's own record, which would grow
        names = [name.lower() for name, _ in asked.headers]
        assert len(set(names)) == len(names), names
        assert set(names) <= passed, names
        assert asked.header("authorization") == "Bearer sk-upstream-secret"
        return chat_stream(["Hi"]) if asked.json().get("stream") else chat_json("Hi")

    return answer


async def send(host: str, port: int, raw: bytes) -> int:
    """The status of what is answered, 0 for a connection that is closed without a word.

    Raises AssertionError for a fault of the gateway's, TimeoutError where it does nothing.
    """
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(raw)
            return await _answered(reader, bodies=b"HEAD " not in raw)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _answered(reader: asyncio.StreamReader, *, bodies: bool) -> int:
    status = 100
    while status == 100:
        try:
            text = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        first, *lines = text[:-4].decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
    headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
    assert status < 500, text
    assert headers["x-request-id"], text
    assert headers["server"] == "visiongate", text
    if not bodies:
        return status
    if status >= 400:
        body = await reader.readexactly(int(headers["content-length"]))
        assert json.loads(body)["error"].keys() == {"message", "type", "param", "code"}
    elif "transfer-encoding" in headers:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
    return status
