"""A provider's time-outs, each where it is alone in the way, over either transport."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxy.web.pulse import COMMENT
from tests.gateway import events, open_gateway
from tests.scripted import Head, Raw, ScriptedUpstream, Send, Sleep, Step, sse
from tests.web.books import open_books
from tests.web.raw import chat_request, connected, unchunked

HANG = Sleep(60)
LONG = {"connect": "20s", "first_byte": "20s", "idle": "20s", "total": "20s"}
WORD = sse({"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]})
DRIP: list[Step] = [Send(WORD), Sleep(0.05)] * 40
PINGS: list[Step] = [Send(b": ping\n\n"), Sleep(0.05)] * 40

#: Which of them is short, what the upstream does, and whether its answer has begun by then.
CASES: dict[str, tuple[str, list[Step], bool]] = {
    "no head": ("first_byte", [HANG], False),
    "half a head": ("first_byte", [Raw(b"HTTP/1.1 200 OK\r\nContent-"), HANG], False),
    "a head alone": ("first_byte", [Head(), HANG], False),
    "idle after comments": ("idle", [Head(), Send(b": ping\n\n"), HANG], False),
    "idle in the first event": ("idle", [Head(), Send(WORD[:9]), HANG], False),
    "idle after an event": ("idle", [Head(), Send(WORD), HANG], True),
    "idle in an event": ("idle", [Head(), Send(WORD + WORD[:9]), HANG], True),
    "total before a head": ("total", [HANG], False),
    "total in comments": ("total", [Head(), *PINGS, HANG], False),
    "total in a drip": ("total", [Head(), *DRIP, HANG], True),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
@pytest.mark.parametrize("comments", ["0", "50ms"])
async def test_a_time_out(
    store_url: str, upstream: ScriptedUpstream, comments: str, transport: str, name: str
) -> None:
    """Before anything has gone out it is a 504, and after that an error event and an unclean end;
    comments of ours neither put it off nor bring it about.
    """
    which, steps, begun = CASES[name]
    upstream.script(steps)
    provider: dict[str, Any] = {"timeouts": {**LONG, which: "300ms"}, "transport": transport}
    async with open_gateway(
        store_url,
        upstream.url,
        server={"stream_keep_alive": comments},
        providers={"openai": provider},
    ) as gate:
        books = await open_books(gate)
        loop = asyncio.get_running_loop()
        async with connected(gate.url) as client:
            await client.send(chat_request(books.key, connection="close"))
            began = loop.time()
            head = await client.head()
            body = await client.rest()
            took = loop.time() - began
        assert took > 0.25
        commented = comments != "0" and Head() in steps
        assert head.status == (200 if begun or commented else 504)
        if head.status == 200:
            (error,) = [e for e in events(unchunked(body)) if "error" in e]
            assert (COMMENT in body) or not commented or "drip" in name
            assert (COMMENT not in body) or commented
        else:
            error = json.loads(body)
        assert error["error"] == {
            "message": "The upstream did not answer in time. Try again.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
        await upstream.wait_closed(1)
        line = await gate.request_line()
        assert line["ended"] == "upstream_timeout"
        assert line["input_tokens"] > 0
        await books.closed(requests=1, tokens=line["input_tokens"] + line["output_tokens"])
