"""An answer that is not OpenAI's, on its way through a whole gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from proxy.domain.chat import ChatRequest
from proxy.domain.errors import UpstreamFailed
from proxy.domain.sse import EventTooLarge
from proxy.providers import openai
from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.scripted import End, Head, Raw, ScriptedUpstream, Send, Split, json_reply, sse

USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
TOLD = sse({"choices": [], "usage": USAGE})
STREAM = Head(200, (("Content-Type", "text/event-stream"),))


def word(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


class Lines:
    """A language of lines: a word each, then "." for the end; "!" is an error, "?" is nothing."""

    def __init__(self, request: ChatRequest, created: int) -> None:
        self.model = request.model
        self.created = created
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        *lines, self.held = (self.held + data).split(b"\n")
        return b"".join(map(self.line, lines))

    def line(self, line: bytes) -> bytes:
        match line:
            case b"?":
                raise UpstreamFailed("The upstream speaks in riddles.")
            case b"<":
                raise EventTooLarge
            case b"!":
                error = {"message": "Tired.", "type": "server_error", "param": None, "code": None}
                return sse({"error": error})
            case b".":
                return TOLD + sse("[DONE]")
            case b"":
                return b""
        return sse(word(line.decode()))

    def so_far(self) -> tuple[None, bool]:
        return None, False

    def whole(self, body: bytes) -> bytes:
        said = json.loads(body)
        if "says" not in said:
            return json.dumps({"error": {"message": said["sorry"]}}).encode()
        message = {"role": "assistant", "content": said["says"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"model": self.model, "choices": [choice], "usage": USAGE}).encode()


def refusal(status: int, body: bytes) -> tuple[int, bytes]:
    said = json.loads(body)["sorry"]
    return 400, json.dumps({"error": {"message": f"{status}: {said}", "code": "no"}}).encode()


@pytest.fixture
async def gate(
    store_url: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gateway]:
    """A gateway whose provider speaks in lines."""
    async with open_gateway(store_url, upstream.url) as opened:
        provider = opened.door.providers["openai"]
        kind = replace(openai.KIND, translator=Lines, refusal=refusal)
        monkeypatch.setitem(opened.door.providers, "openai", replace(provider, kind=kind))
        yield opened


async def told(gate: Gateway, **more: Any) -> bytes:
    async with gate.post(await gate.key("100 usd/day"), {**HELLO, **more}) as answer:
        assert answer.status == 200
        body: bytes = await answer.read()
        return body


async def test_a_stream_is_translated(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The client gets OpenAI's events, however the provider's bytes are cut."""
    upstream.script([STREAM, Split(b"The\n\nsunset\n.\n", (1, 2, 3, 1, 4)), End()])
    assert events(await told(gate)) == [word("The"), word("sunset"), "[DONE]"]
    line = await gate.request_line()
    assert (line["input_tokens"], line["output_tokens"], line["ended"]) == (12, 3, "complete")


async def test_who_asks_for_the_usage_gets_it(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The usage event reaches a client that asked for it, before the end mark."""
    upstream.script([STREAM, Send(b"Hello\n.\n"), End()])
    body = await told(gate, stream_options={"include_usage": True})
    assert body == sse(word("Hello")) + TOLD + sse("[DONE]")


async def test_all_in_one_read(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An answer that came whole with its head is translated as one that comes in pieces."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 8\r\n\r\n"
    upstream.script([Raw(head + b"Hello\n.\n")])
    assert events(await told(gate)) == [word("Hello"), "[DONE]"]


async def test_a_whole_answer_is_translated(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """An answer that is not streamed becomes a chat.completion, and its usage is charged."""
    upstream.script(json_reply(200, {"says": "Hello."}))
    answer = json.loads(await told(gate, stream=False))
    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert answer["model"] == "gpt-4o"
    assert (await gate.request_line())["input_tokens"] == 12


async def test_no_answer_in_a_200(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A whole answer that the translator makes an error of is a 502 with its words."""
    upstream.script(json_reply(200, {"sorry": "I am tired."}))
    async with gate.post(await gate.key(), {**HELLO, "stream": False}) as answer:
        assert answer.status == 502
        assert "I am tired." in (await answer.json())["error"]["message"]


async def test_a_refusal_is_translated(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The provider's error has OpenAI's form, all four keys, and the status that it stands for."""
    upstream.script(json_reply(409, {"sorry": "no such animal"}))
    async with gate.post(await gate.key()) as answer:
        assert answer.status == 400
        error = (await answer.json())["error"]
    assert error["message"] == "409: no such animal"
    assert error.keys() == {"message", "type", "param", "code"}


async def take(answer: aiohttp.ClientResponse, into: bytearray) -> None:
    async for part in answer.content.iter_any():
        into += part


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"Hello\n!\n", "Tired."),
        (b"Hello\n?\nmore\n", "The upstream speaks in riddles."),
        (b"Hello\n<\n", "An event of the upstream is too large."),
        (b"Hello\nwor", "The upstream broke off its answer. What came is not complete."),
    ],
)
@pytest.mark.parametrize("first", [b"", b"Well\n"])
async def test_a_stream_that_fails(
    gate: Gateway, upstream: ScriptedUpstream, said: bytes, message: str, first: bytes
) -> None:
    """What goes wrong in mid-stream is one error event, no end mark, and an unclean end; where
    nothing has gone out, a plain error.
    """
    upstream.script([STREAM, *([Send(first)] if first else []), Send(said), End()])
    body = bytearray()
    async with gate.post(await gate.key()) as answer:
        if not first and (b"?" in said or b"<" in said):  # of a read that fails nothing came
            assert answer.status == 502
            assert (await answer.json())["error"]["message"] == message
            return
        with pytest.raises(aiohttp.ClientPayloadError):
            await take(answer, body)
    told = events(bytes(body))
    errors = [event["error"]["message"] for event in told if "error" in event]
    assert errors == [message]
    assert "[DONE]" not in told
