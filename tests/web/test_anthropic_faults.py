"""Every fault at every stage of an answer of Anthropic's, over either transport."""

from __future__ import annotations

import json

import pytest

from tests.gateway import events, open_gateway
from tests.providers.anthropic import recorded
from tests.scripted import Head, Raw, ScriptedUpstream, Send, Step
from tests.web.books import FAST, open_books
from tests.web.test_fault_matrix import FAULTS, TRANSPORTS, streamed

ALL = recorded("text.sse")
TEXT, _ = ALL.split(b"event: content_block_stop")
STAGES: dict[str, list[Step]] = {
    "nothing": [],
    "a head that has begun": [Raw(b"HTTP/1.1 200 OK\r\nContent-")],
    "a head": [Head()],
    "a ping": [Head(), Send(b'event: ping\ndata: {"type": "ping"}\n\n')],
    "half an event": [Head(), Send(ALL[:40])],
    "text": [Head(), Send(TEXT)],
    "all": [Head(), Send(ALL)],
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_fault_at_a_stage(
    store_url: str, upstream: ScriptedUpstream, transport: str, stage: str
) -> None:
    """No fault makes a whole answer of a part, or a part of a whole one: the vendor's prompt is
    charged once its answer has begun, its output once it has ended, and nothing is left behind.
    """
    provider = {"kind": "anthropic", "timeouts": FAST, "transport": transport}
    async with open_gateway(store_url, upstream.url, providers={"openai": provider}) as gate:
        books = await open_books(gate)
        for fault, steps in FAULTS.items():
            upstream.script([*STAGES[stage], *steps])
            status, body, whole = await streamed(gate, books.key)
            await gate.idle()
            if stage not in ("text", "all"):
                assert status == (504 if fault == "stall" else 502), fault
                assert json.loads(body)["error"]["type"] == "server_error", fault
                continue
            told = events(body)
            assert (status, whole) == (200, stage == "all"), fault
            assert ("[DONE]" in told) == (stage == "all"), fault
            assert ("error" in told[-1]) == (stage != "all"), fault
            words = [x["choices"][0]["delta"].get("content") for x in told if "choices" in x]
            assert "".join(filter(None, words)) == "The sunset over Zürich 🌅."
        lines = [x for x in gate.log_lines() if x.get("path") == "/v1/chat/completions"]
        output = sum(line["output_tokens"] for line in lines)
        tokens = sum(line["input_tokens"] for line in lines) + output
        if stage in ("text", "all"):
            assert {line["input_tokens"] for line in lines} == {25}
            assert (output == 15 * len(FAULTS)) == (stage == "all")
        await books.closed(requests=len(FAULTS), tokens=tokens)
