"""A gateway before one server of a kind that answers as nobody should, and what its client sees."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from tests.gateway import HELLO, Gateway, events, open_gateway
from tests.scripted import End, Head, ScriptedUpstream, Send, Step, sse

MODEL = "gpt-4o"
KINDS = ("openai", "azure", "azure dated", "anthropic")
PRICE = {"input": 2.5, "output": 10}


class Seen(NamedTuple):
    """What a client saw (the events of a stream, or the one object), and what was charged.

    `ended`: "done", "error" (an event, and a cut), or a status that is not 200.
    """

    ended: str | int
    told: list[Any]
    input: int
    output: int
    source: str

    @property
    def text(self) -> str:
        choices = [e["choices"][0] for e in self.told if isinstance(e, dict) and e.get("choices")]
        parts = [c.get("delta") or c.get("message") for c in choices if isinstance(c, dict)]
        return "".join(part.get("content") or "" for part in parts if part)

    @property
    def charged(self) -> tuple[int, int, str]:
        return self.input, self.output, self.source


@asynccontextmanager
async def odd_gateway(
    store_url: str, upstream: ScriptedUpstream, kind: str
) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway before a server of that kind, and a key for it."""
    name, _, dated = kind.partition(" ")
    base_url = upstream.url if name == "openai" else upstream.url.removesuffix("/v1")
    provider = {
        "kind": name,
        "base_url": base_url,
        "api_key": "sk-upstream-secret",
        "breaker": {"failures": 0},
        "timeouts": {"connect": "2s", "first_byte": "5s", "idle": "5s", "total": "30s"},
        **({"api_version": "2024-10-21"} if dated else {}),
    }
    served = "claude-3-haiku" if name == "anthropic" else MODEL
    model = {
        "targets": [{"provider": "odd", "model": served}],
        "retries": 0,
        "price": PRICE,
        "max_output": 4096,
    }
    async with open_gateway(
        store_url, upstream.url, providers={"odd": provider}, models={MODEL: model}
    ) as gate:
        yield gate, await gate.key("100 usd/day")


async def seen(gate: Gateway, key: str, *, stream: bool = True, usage: bool = False) -> Seen:
    """Ask, and take what comes."""
    options = {"stream_options": {"include_usage": True}} if usage else {}
    body, cut = b"", False
    async with gate.post(key, {**HELLO, "stream": stream, **options}) as answer:
        try:
            async for part in answer.content.iter_any():
                body += part
        except aiohttp.ClientPayloadError:
            cut = True
        status = answer.status
    line = await gate.request_line()
    charged = line["input_tokens"], line["output_tokens"], line["source"]
    if status != 200:
        error = json.loads(body)["error"]
        assert error.keys() >= {"message", "type", "param", "code"}
        assert not cut
        return Seen(status, [error], *charged)
    told = events(body) if stream else [json.loads(body)]
    errors = [e for e in told if isinstance(e, dict) and e.get("error")]
    # Never cut short in silence: an end mark, or an error and a cut.
    if stream and (errors or cut):
        assert len(errors) == 1
        assert cut or told[-1] == "[DONE]"  # the upstream's own, which says that it is over
        return Seen("error", told, *charged)
    assert not errors
    assert not stream or "[DONE]" in told
    return Seen("done", told, *charged)


def streamed(*parts: object, kind: str | None = "text/event-stream") -> list[Step]:
    """A stream of these events: objects, words, or bytes as they are."""
    sends = [Send(part if isinstance(part, bytes) else sse(part)) for part in parts]
    return [Head(200, _typed(kind)), *sends, End()]


def whole(body: object, kind: str | None = "application/json") -> list[Step]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    length = ("Content-Length", str(len(data)))
    return [Head(200, (*_typed(kind), length), chunked=False), Send(data), End()]


def _typed(kind: str | None) -> Sequence[tuple[str, str]]:
    return (("Content-Type", kind),) if kind else ()


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One of OpenAI's."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return {**base, "choices": choices, **more}


def completion(text: str = "Hello there.", **more: Any) -> dict[str, Any]:
    """OpenAI's whole answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "choices": [choice], **more}


# Anthropic's events.


def start(usage: Any = None, **more: Any) -> dict[str, Any]:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": []}
    usage = {"input_tokens": 20, "output_tokens": 1} if usage is None else usage
    return {"type": "message_start", "message": {**message, "usage": usage, **more}}


def block(index: int = 0, **block: Any) -> dict[str, Any]:
    return {
        "type": "content_block_start",
        "index": index,
        "content_block": block or {"type": "text", "text": ""},
    }


def delta(text: str, index: int = 0) -> dict[str, Any]:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "text_delta", "text": text},
    }


def finish(usage: Any = None, reason: str | None = "end_turn") -> dict[str, Any]:
    usage = {"output_tokens": 7} if usage is None else usage
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


STOP = {"type": "message_stop"}


def message(text: str = "Hello there.", **more: Any) -> dict[str, Any]:
    """Anthropic's whole answer."""
    return {
        **start()["message"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        **more,
    }
