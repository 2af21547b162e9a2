"""Every form that a stream of events may have: what the client gets, whether it is complete, and
what it costs; the same however it is cut into reads.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from proxy.domain.sse import LARGEST_EVENT
from tests.gateway import Gateway, events
from tests.scripted import End, Head, Raw, ScriptedUpstream, Send, Split, Step, sse
from tests.web.books import open_books, quick
from tests.web.raw import chat_request, connected, unchunked

BOM = b"\xef\xbb\xbf"
DONE = b"data: [DONE]\n\n"
TWO_TOKENS = '{"choices":[{"index":0,"delta":{"content":"Hello there"},"finish_reason":null}]}'
WORD = sse(TWO_TOKENS)
CRLF = WORD.replace(b"\n", b"\r\n")
CR = WORD.replace(b"\n", b"\r")
LINES = b'data: {"choices":[{"index":0,\ndata: "delta":{"content":\ndata: "Hello there"}}]}\n\n'
LETTERS = sse({"choices": [{"index": 0, "delta": {"content": "räm 漢 🎉"}}]})
FORMS = b"event: message\nid: 7\nretry: 10\n" + WORD


class Form(NamedTuple):
    """What comes; what the client gets of it, None: the same; words (of two tokens) that it has."""

    came: bytes
    passes: bytes | None = None
    words: int = 1
    complete: bool = True


TABLE: dict[str, Form] = {
    "LF": Form(WORD + DONE),
    "CRLF": Form(CRLF + b"data: [DONE]\r\n\r\n"),
    "CR": Form(CR + b"data: [DONE]\r\r"),
    "mixed line ends": Form(WORD + CRLF + CR + WORD + b"data: [DONE]\r\n\n", words=4),
    "CR, then LF": Form(CR + WORD + DONE, words=2),
    # Of a BOM the SDKs lose the first event, silently; a second one is a part of its line.
    "a BOM": Form(BOM + WORD + DONE, WORD + DONE),
    "a BOM before a comment": Form(BOM + b": hi\n\n" + WORD + DONE, b": hi\n\n" + WORD + DONE),
    "a BOM before the end mark": Form(WORD + BOM + DONE),
    "a BOM alone with the end mark": Form(BOM + DONE, DONE, words=0),
    "comments": Form(b": a\n\n:\n\n" + WORD + b": b\n\n" + DONE + b": c\n\n"),
    "a comment in an event": Form(b": a\n" + WORD + b"data: [DONE]\n: b\n\n"),
    "data of several lines": Form(LINES + DONE),
    "letters of several bytes": Form(LETTERS + DONE, words=3),
    "other fields": Form(FORMS + DONE),
    "no space": Form(WORD.replace(b"data: ", b"data:") + b"data:[DONE]\n\n"),
    "two spaces": Form(WORD.replace(b"data: ", b"data:  ") + b"data:  [DONE]\n\n"),
    # The SDK raises on these, so that nothing is lost in silence: they pass as they came.
    "empty data": Form(b"data:\n\n" + WORD + b"data\n\n" + DONE),
    "no UTF-8": Form(WORD + b"data: \xff\xfe\n\n" + DONE),
    "no JSON": Form(WORD + b"data: {\n\n" + DONE),
    "blank lines": Form(b"\n\n\n" + WORD + b"\n" + DONE),
    "the end mark with a space": Form(WORD + b"data: [DONE] \n\n"),
    "the end mark without a blank line": Form(WORD + b"data: [DONE]\n"),
    "the end mark without a line end": Form(WORD + b"data: [DONE]"),
    "the end mark with a name": Form(WORD + b"event: done\ndata: [DONE]\n\n"),
    "the end mark twice": Form(WORD + DONE + DONE),
    "the end mark alone": Form(DONE, words=0),
    "the end mark alone without a line end": Form(b"data: [DONE]", words=0),
    "data after the end mark": Form(WORD + DONE + WORD, words=2),
    "half an event after the end mark": Form(WORD + DONE + b"data: {"),
    "an error after the end mark": Form(WORD + DONE + sse({"error": {"message": "late"}})),
    "no end mark": Form(WORD, complete=False),
    "a comment in its place": Form(WORD + b": [DONE]\n\n", complete=False),
    "a text in its place": Form(WORD + b'data: "[DONE]"\n\n', complete=False),
    "half an end mark": Form(WORD + b"data: [DON", WORD, complete=False),
    "an event without an end": Form(WORD + b"data: {", WORD, complete=False),
}


async def streamed(gate: Gateway, key: str) -> tuple[bytes, bool]:
    """What a client gets, and whether it ended as a whole body does."""
    async with connected(gate.url) as client:
        await client.send(chat_request(key, connection="close"))
        assert (await client.head()).status == 200
        raw = await client.rest()
    return unchunked(raw.removesuffix(b"0\r\n\r\n")), raw.endswith(b"\r\n0\r\n\r\n")


def cuts(came: bytes) -> list[list[Step]]:
    """Ways to send it: whole, with its head, a byte at a time, in pieces."""
    length = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    return [
        [Head(), Send(came), End()],
        [Raw(length % len(came) + came)],
        [Head(), Split(came, [1] * (len(came) - 1)), End()],
        *([Head(), Split(came, [at] * (len(came) // at)), End()] for at in (3, 7, 40, 91)),
    ]


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
async def test_a_form(
    store_url: str, upstream: ScriptedUpstream, transport: str, name: str
) -> None:
    """It passes as it came but for a BOM; without an end mark it ends in an error event and
    unclean; and it costs what it holds.
    """
    form = TABLE[name]
    expected = form.came if form.passes is None else form.passes
    async with quick(store_url, upstream, transport) as gate:
        books = await open_books(gate)
        ways = cuts(form.came)
        for steps in ways:
            upstream.script(steps)
            body, whole = await streamed(gate, books.key)
            assert whole is form.complete, steps
            if form.complete:
                assert body == expected, steps
            else:
                assert body.startswith(expected), steps
                (error,) = events(body.removeprefix(expected))
                assert error["error"]["type"] == "server_error"
        await gate.idle()
        lines = [x for x in gate.log_lines() if x.get("path") == "/v1/chat/completions"]
        assert [line["output_tokens"] for line in lines] == [form.words * 2] * len(ways)
        tokens = sum(line["input_tokens"] + line["output_tokens"] for line in lines)
        await books.closed(requests=len(ways), tokens=tokens)


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("over", [0, 1])
async def test_an_event_of_8_mib(
    store_url: str, upstream: ScriptedUpstream, over: int, first: bool, transport: str
) -> None:
    """An event of 8 MiB passes whole, and one byte more is refused, be it the first or not."""
    begun = b"" if first else WORD
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
    event = frame % (b"x" * (LARGEST_EVENT - len(frame % b"") + over))
    assert len(event) == LARGEST_EVENT + over
    sent = begun + event + DONE
    upstream.script([Head(), Split(sent, [2**18] * 31), End()])
    async with quick(store_url, upstream, transport) as gate:
        books = await open_books(gate)
        async with connected(gate.url) as client:
            await client.send(chat_request(books.key, connection="close"))
            head = await client.head()
            raw = await client.rest()
        if not over:
            assert unchunked(raw.removesuffix(b"0\r\n\r\n")) == sent
        elif first:
            assert head.status == 502
            assert b"too large" in raw
        else:
            (error,) = events(unchunked(raw).removeprefix(WORD))
            assert "too large" in error["error"]["message"]
        line = await gate.request_line()
        assert line["ended"] == ("upstream_failed" if over else "complete")
