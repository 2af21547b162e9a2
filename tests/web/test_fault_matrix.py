"""Every fault at every stage of an answer, over either transport: told, charged and cleared up."""

from __future__ import annotations

import json
import socket

import pytest

from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.scripted import Close, Head, Raw, Reset, ScriptedUpstream, Send, Sleep, Step, sse
from tests.web.books import FAST, open_books, quick
from tests.web.raw import chat_request, connected, unchunked

WORD = {"choices": [{"index": 0, "delta": {"content": "Hello there"}, "finish_reason": None}]}
TEXT = sse(WORD, WORD)
TOKENS = 4  # "Hello there" is two tokens of either vocabulary

FAULTS: dict[str, list[Step]] = {
    "reset": [Reset()],
    "close": [Close()],
    "garbage": [Raw(b"\0garbage\r\n\r\n"), Close()],
    "malformed chunk": [Raw(b"zz\r\n\r\n"), Sleep(60)],
    "half a chunk": [Raw(b"50\r\n"), Close()],
    "drip": [Raw(b"5"), Sleep(0.05), Raw(b"0"), Sleep(0.05), Close()],
    "stall": [Sleep(60)],
}
STAGES: dict[str, list[Step]] = {
    "nothing": [],
    "a head that has begun": [Raw(b"HTTP/1.1 200 OK\r\nContent-")],
    "a head": [Head()],
    "text": [Head(), Send(TEXT)],
    "all": [Head(), Send(TEXT + sse("[DONE]"))],
}
TRANSPORTS = ["direct", "aiohttp"]


async def streamed(gate: Gateway, key: str) -> tuple[int, bytes, bool]:
    """Status, body, and whether it ended as a whole one does."""
    async with connected(gate.url) as client:
        await client.send(chat_request(key, connection="close"))
        head = await client.head()
        raw = await client.rest()
    if head.status != 200:
        return head.status, raw, True
    return 200, unchunked(raw.removesuffix(b"0\r\n\r\n")), raw.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_fault_at_a_stage(
    store_url: str, upstream: ScriptedUpstream, transport: str, stage: str
) -> None:
    """Before the first byte a fault is a 502 or 504, in mid-stream an error event and no last
    chunk, after the end mark nothing; what came is charged, and nothing is left behind."""
    async with quick(store_url, upstream, transport) as gate:
        books = await open_books(gate)
        output = 0
        for fault, steps in FAULTS.items():
            upstream.script([*STAGES[stage], *steps])
            status, body, whole = await streamed(gate, books.key)
            await gate.idle()
            if stage == "all":
                assert (status, body, whole) == (200, TEXT + sse("[DONE]"), True), fault
            elif stage == "text":
                (error,) = events(body.removeprefix(TEXT))
                assert (status, error.keys(), whole) == (200, {"error"}, False), fault
            else:
                assert status == (504 if fault == "stall" else 502), fault
                assert json.loads(body)["error"]["type"] == "server_error", fault
            output += TOKENS if stage in ("text", "all") else 0
        lines = [x for x in gate.log_lines() if x.get("path") == "/v1/chat/completions"]
        assert sum(line["output_tokens"] for line in lines) == output
        tokens = sum(line["input_tokens"] for line in lines) + output
        await books.closed(requests=len(FAULTS), tokens=tokens)


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "a black hole"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_connection(store_url: str, transport: str, listens: bool) -> None:
    """A server that refuses, or lets nobody in, is a 502 for the price of a request."""
    with socket.socket() as taken, socket.socket() as first:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        if listens:
            taken.listen(0)
            first.connect(("127.0.0.1", port))  # there is no room for a second
        timeouts = {**FAST, "connect": "100ms"}
        providers = {"openai": {"timeouts": timeouts, "transport": transport}}
        url = f"http://127.0.0.1:{port}/v1"
        async with open_gateway(store_url, url, providers=providers) as gate:
            books = await open_books(gate)
            async with books.post(HELLO) as answer:
                assert answer.status == 502
            await books.closed(requests=1, tokens=0)
