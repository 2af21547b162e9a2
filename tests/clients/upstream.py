"""The provider behind the matrix: what it answers shows what reached it.

An image is answered with its size, tools with a call of the first one (its `text`, where it has
such a parameter, being the answer), a tool's result with the result; each model is a way to behave.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from tests.scripted import Close, End, Head, Pause, Recorded, Send, Step, json_reply, sse
from tests.scripted.replies import CREATED

WELL: Final = "gpt-4o"
SPEND: Final = "gpt-4o-mini"
HELD: Final = "gpt-4o-held"
CUT: Final = "gpt-4o-cut"

TEXT: Final = "The sunset is red."
NUMBERS: Final = {"width": 64, "height": 48}
USAGE: Final = {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48}

_STREAM: Final = Head(200, (("Content-Type", "text/event-stream"),))


class Upstream:
    """`answer` is a script for all requests; `held` are let go one by one, by their prompt."""

    def __init__(self) -> None:
        self.held: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def answer(self, asked: Recorded) -> Iterable[Step]:
        body = asked.json()
        if body["model"] == HELD:
            gate = Pause(self.held[_texts(body)[-1]])
            return [_STREAM, Send(_chunk({"content": "Wait"})), gate, Send(_end("stop")), End()]
        message = _message(body)
        reason = "tool_calls" if "tool_calls" in message else "stop"
        if body.get("stream"):
            deltas = [Send(_chunk(delta)) for delta in _deltas(message)]
            if body["model"] == CUT:
                return [_STREAM, *deltas[:3], Close()]
            return [
                _STREAM,
                *deltas,
                Send(_end(reason)),
                Send(_usage()),
                Send(sse("[DONE]")),
                End(),
            ]
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return json_reply(200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})


def _message(body: dict[str, Any]) -> dict[str, Any]:
    results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
    if results:
        return _said(f"The area is {_text(results[-1])}.")
    sizes = [_size(part["image_url"]["url"]) for part in _parts(body) if "image_url" in part]
    text = f"A picture of {sizes[0]}." if sizes else TEXT
    if not body.get("tools"):
        return _said(text)
    tool = body["tools"][0]["function"]
    values = {**NUMBERS, "text": text}
    given = {name: values[name] for name in tool["parameters"]["properties"]}
    function = {"name": tool["name"], "arguments": json.dumps(given)}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _deltas(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """A message as it comes: the words, or a call whose arguments come in pieces."""
    yield {"role": "assistant", "content": ""}
    for word in (message["content"] or "").split(" "):
        if word:
            yield {"content": word if word.endswith(".") else word + " "}
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"].values()
        yield {"tool_calls": [{"index": 0, **call, "function": {"name": name, "arguments": ""}}]}
        for piece in (arguments[:15], arguments[15:22], arguments[22:]):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-123", "object": kind, "created": CREATED, "model": WELL}


def _chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return sse({**_head("chat.completion.chunk"), "choices": [choice], "usage": None})


def _end(reason: str) -> bytes:
    return _chunk({}, reason)


def _usage() -> bytes:
    """The gateway asks for it whatever its client does."""
    return sse({**_head("chat.completion.chunk"), "choices": [], "usage": USAGE})


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = [message.get("content") for message in body["messages"]]
    return [part for content in contents if isinstance(content, list) for part in content]


def _texts(body: dict[str, Any]) -> list[str]:
    return [_text(message["content"]) for message in body["messages"]]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content)


def _size(url: str) -> str:
    """Of a PNG in a data URI; its header begins at byte 16."""
    head = base64.b64decode(url.partition(",")[2])[16:24]
    width, height = struct.unpack(">II", head)
    return f"{width}x{height}"
