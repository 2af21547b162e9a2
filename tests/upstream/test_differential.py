"""Our own connections against aiohttp's client: whatever an upstream does, the same is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from proxy.domain.errors import UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Outgoing, Timeouts, Transport
from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport
from tests.scripted import Close, Raw, Reset, ScriptedUpstream, Step
from tests.upstream.asking import answered

HASTY = Timeouts(connect=2, first_byte=0.1, idle=0.1, total=5)
CALM = Timeouts(connect=2, first_byte=1, idle=1, total=5)

#: What aiohttp takes and we do not: what it looks like, and where RFC 9112 has the reason.
STRICTER = {
    "a bare line feed": (r"(?<!\r)\n", "2.2: may be taken; another reader may not take it for one"),
    "a folded line": (r"\r\n[ \t]", "5.2: obsolete, to be refused or replaced"),
    "a space after a name": (r"[a-z] +:", "5.1: hides a header from other readers"),
    "lengths that differ": (r"(?s)content-length.*content-length", "6.3: one of them is wrong"),
    "a length and chunks": (r"(?s)chunked.*content-length", "6.3: a sign of smuggling"),
    "chunks of HTTP/1.0": (r"(?s)^HTTP/1\.0.*chunked", "6.1: faulty framing"),
    "a coding under the chunks": (r"gzip, *chunked", "7: we did not ask for it"),
    "a trailer that is none": (r"\r\n0\r\n(?!\r\n)", "7.1.2: a trailer is a header"),
    "a reset where nothing tells the end": (
        r"(?s)^(?!.*(chunked|content-length)).*Reset\(",
        "8: a close ends it, a fault of the network does not",
    ),
    "another version": (r"^HTTP/(?!1\.[01] )", "2.3: we speak 1.1"),
}

#: What we take and aiohttp does not.
LENIENT = {
    "a body where none can be": (
        r"^HTTP/1\.1 204",
        "6.3: it is none, and the connection is closed",
    ),
    "a length that is repeated": (r"(?s)content-length.*content-length", "6.3: one, if all agree"),
}

HEADS = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 429 Slow Down\r\n",
    "HTTP/1.1 503 \r\n",
    "HTTP/1.1 204 None\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    "HTTP/2 200 OK\r\n",
    "HTTP/1.1 2x0 OK\r\n",
    "ICY 200 OK\r\n",
]
HEADERS = [
    "content-type: text/event-stream\r\n",
    "Content-Type: application/json\r\nx: y\r\n",
    "connection: close\r\n",
    "keep-alive: timeout=5\r\n",
    "x:\r\n",
    "folded: a\r\n b\r\n",
    "spaced : a\r\n",
    "bare: a\n",
    "no colon\r\n",
    "null: \0\r\n",
]
FRAMINGS: list[tuple[str, Callable[[list[bytes]], bytes]]] = [
    ("transfer-encoding: chunked\r\n", lambda parts: chunks(parts) + b"0\r\n\r\n"),
    ("Transfer-Encoding: Chunked\r\n", lambda parts: chunks(parts, b";a=b") + b"0\r\nt: 1\r\n\r\n"),
    ("transfer-encoding: chunked\r\n", lambda parts: chunks(parts) + b"0\r\nrubbish\r\n\r\n"),
    ("transfer-encoding: chunked\r\n", lambda parts: chunks(parts) + b"zz\r\nrubbish\r\n"),
    ("transfer-encoding: chunked\r\n", lambda parts: chunks(parts).replace(b"\r", b"")),
    ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", lambda parts: chunks(parts)),
    ("transfer-encoding: gzip, chunked\r\n", lambda parts: chunks(parts) + b"0\r\n\r\n"),
    ("content-length: {}\r\n", b"".join),
    ("content-length: {}\r\ncontent-length: {}\r\n", b"".join),
    ("content-length: -1\r\n", b"".join),
    ("content-length: 1_0\r\n", b"".join),
    ("", b"".join),
]
ENDS: list[list[Step]] = [[], [Close()], [Reset()], [Raw(b"\0garbage"), Close()]]


class Told(NamedTuple):
    """What a caller learns of an answer."""

    status: int | None
    body: bytes
    fault: str | None


class Answer(NamedTuple):
    """The bytes of an answer, where they are cut, and what happens after the last."""

    wire: bytes
    cuts: list[int]
    end: list[Step]

    def script(self) -> list[Step]:
        places = sorted({place % (len(self.wire) + 1) for place in self.cuts})
        bounds = zip([0, *places], [*places, len(self.wire)], strict=True)
        return [*(Raw(self.wire[a:b]) for a, b in bounds if a < b), *self.end]


def chunks(parts: list[bytes], extension: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts if p)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Mostly good ones; some are broken off at a byte, or end in garbage."""
    first = draw(st.sampled_from(HEADS[:1] * 9 + HEADS))
    headers = draw(st.lists(st.sampled_from(HEADERS[:5] * 5 + HEADERS), max_size=2, unique=True))
    told, framed = draw(st.sampled_from(FRAMINGS[:2] * 4 + FRAMINGS[7:8] * 6 + FRAMINGS))
    parts = draw(st.lists(st.binary(max_size=30), max_size=3))
    size = len(b"".join(parts))
    head = first + "".join(headers) + told.format(size, size) + "\r\n"
    wire = head.encode("latin-1") + framed(parts)
    if draw(st.booleans()):
        wire = wire[: draw(st.integers(0, len(wire)))]
    cuts = draw(st.lists(st.integers(0, 400), max_size=3))
    return Answer(wire, cuts, draw(st.sampled_from(ENDS)))


def looks(answer: Answer, table: dict[str, tuple[str, str]]) -> bool:
    text = answer.wire.decode("latin-1") + str(answer.end)
    return any(re.search(pattern, text) for pattern, _ in table.values())


async def told(transport: Transport, up: ScriptedUpstream, timeouts: Timeouts) -> Told:
    parts: list[bytes] = []
    status = None
    try:
        async with answered(
            transport.open(Outgoing(f"{up.url}/x", {}, [b"{}"], timeouts), lambda: None)
        ) as call:
            status = call.status
            parts.append(await call.first())
            await call.deliver(parts.append)
    except UpstreamFailed as error:
        kind = UpstreamTimeout if isinstance(error, UpstreamTimeout) else UpstreamFailed
        return Told(status, b"".join(parts), kind.__name__)
    return Told(status, b"".join(parts), None)


async def both(answer: Answer, timeouts: Timeouts) -> tuple[Told, Told]:
    async def one(kind: type[Any]) -> Told:
        transport = kind()
        async with ScriptedUpstream() as up:
            up.script(answer.script())
            try:
                return await told(transport, up, timeouts)
            finally:
                await transport.close()

    return await one(DirectTransport), await one(AiohttpTransport)


def agree(ours: Told, theirs: Told, answer: Answer) -> bool:
    """The same, or apart as the tables have it. Where an answer breaks off, ours tells at least as
    much of it: what came before a fault is delivered, and the end of a malformed head is awaited.
    """
    if ours == theirs or (ours.fault and looks(answer, STRICTER)):
        return True
    if theirs.fault and not ours.fault:
        return looks(answer, LENIENT)
    if b"\r\n\r\n" not in answer.wire:
        return bool(ours.fault and theirs.fault)
    same = ours.fault == theirs.fault is not None and theirs.status in (None, ours.status)
    return same and ours.body.startswith(theirs.body)


async def differ(answer: Answer) -> str:
    for timeouts in (HASTY, CALM):  # the machine may have been slow
        ours, theirs = await both(answer, timeouts)
        if agree(ours, theirs, answer):
            return ""
    return f"{answer}\nours:   {ours}\ntheirs: {theirs}"


@settings(max_examples=25, phases=[Phase.generate])  # it would take minutes to shrink
@given(st.lists(answers(), min_size=8, max_size=8))
async def test_both_tell_the_same(several: list[Answer]) -> None:
    """Status, body and kind of fault are the same, but where one is stricter for a reason."""
    told = await asyncio.gather(*map(differ, several))
    assert not any(told), "\n".join(told)
