"""Scripts for an upstream's usual answers, in the shapes of the API's reference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.scripted.steps import End, Head, Headers, Send, Step

CREATED = 1677652288


def sse(*objects: object) -> bytes:
    """An event for each: a string as it is (`[DONE]`), anything else as compact JSON."""
    lines = (each if isinstance(each, str) else _json(each) for each in objects)
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def chat_stream(
    words: Iterable[str],
    usage: Mapping[str, Any] | None = None,
    model: str = "gpt-4o",
    id: str = "chatcmpl-123",
    finish_reason: str = "stop",
    headers: Headers = (),
) -> list[Step]:
    """A whole stream, an event to a Send: role, words, finish, usage if given, `[DONE]`.

    With a usage the other chunks carry `usage: null`, as OpenAI's do when it is asked for.
    """
    base = {"id": id, "object": "chat.completion.chunk", "created": CREATED, "model": model}
    tail = {} if usage is None else {"usage": None}
    deltas: Sequence[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant"}, None),
        *(({"content": word}, None) for word in words),
        ({}, finish_reason),
    ]
    events: list[object] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **tail}
        for delta, reason in deltas
    ]
    if usage is not None:
        events.append({**base, "choices": [], "usage": usage})
    sends = [Send(sse(event)) for event in (*events, "[DONE]")]
    return [Head(200, (("Content-Type", "text/event-stream"), *headers)), *sends, End()]


def chat_json(
    text: str,
    usage: Mapping[str, Any] | None = None,
    model: str = "gpt-4o",
    id: str = "chatcmpl-123",
    finish_reason: str = "stop",
    headers: Headers = (),
) -> list[Step]:
    """An answer that is not streamed."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    base = {"id": id, "object": "chat.completion", "created": CREATED, "model": model}
    tail = {} if usage is None else {"usage": usage}
    return json_reply(200, {**base, "choices": [choice], **tail}, headers)


def error_json(
    status: int,
    message: str,
    type: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
    headers: Headers = (),
) -> list[Step]:
    """A refusal in OpenAI's envelope."""
    error = {"message": message, "type": type, "param": param, "code": code}
    return json_reply(status, {"error": error}, headers)


def json_reply(status: int, value: object, headers: Headers = ()) -> list[Step]:
    """Any JSON, with its content-length."""
    body = _json(value).encode()
    named = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    return [Head(status, (*named, *headers), chunked=False), Send(body), End()]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
