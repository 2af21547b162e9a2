"""Requests to begin from, and how they are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.domain.chat import ChatRequest, parse_chat
from proxy.domain.errors import BadRequest
from proxy.domain.estimate import text_tokens
from proxy.domain.plain import plain_chat
from proxy.domain.routing import Target
from proxy.domain.sending import as_came, sent_messages
from proxy.domain.steps import finish
from proxy.domain.tokenizer import tokenizer_for
from proxy.providers.openai import encode

NOTHING: frozenset[str] = frozenset()

IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
USER: dict[str, Any] = {"role": "user", "content": "Hello"}
TEXT: dict[str, Any] = {"type": "text", "text": "What is in this image?"}
VISION: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [IMAGE, TEXT]},
    ],
    "stream": True,
    "max_tokens": 1000,
}


def hello(**more: Any) -> dict[str, Any]:
    """A request of text alone, with `more` fields."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], **more}


def asks(*parts: Any, **more: Any) -> dict[str, Any]:
    """A request of one message with these content parts."""
    return hello(**{"messages": [{"role": "user", "content": list(parts)}], **more})


def raw(field: str) -> bytes:
    """A request with one more field, written as given."""
    return json.dumps(hello()).encode()[:-1] + b", " + field.encode() + b"}"


def parse(body: Any, allowed: frozenset[str] = NOTHING) -> ChatRequest:
    """The request by all the rules; where it is a plain one, the short way makes the same of it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    plain = plain_chat(raw)
    try:
        request = finish(parse_chat(raw, allowed))
    except BadRequest:
        assert plain is None
        raise
    assert plain is None or known(plain) == known(request)
    return request


def known(request: ChatRequest) -> dict[str, Any]:
    """All that is known of a request, however it was read."""
    names = set(request.__struct_fields__) - {"fields", "messages", "texts"}
    fields = {name: bytes(raw) for name, raw in request.fields.items()}
    tokens = [text_tokens(request, tokenizer_for(model)) for model in ("gpt-4o", "another")]
    return {**{name: getattr(request, name) for name in names}, "fields": fields, "tokens": tokens}


def going_up(request: ChatRequest, target: Target, output_param: str = "max_tokens") -> bytes:
    """The body that the provider gets."""
    messages = None if as_came(request) else finish(sent_messages(request))
    return b"".join(encode(request, messages, target, output_param))


def refused(body: Any, allowed: frozenset[str] = NOTHING) -> BadRequest:
    """The refusal of a body; fails where it is not refused, or not as a client relies on it."""
    with pytest.raises(BadRequest) as caught:
        parse(body, allowed)
    error = caught.value
    assert error.status == 400
    assert error.envelope()["error"].keys() == {"message", "type", "param", "code"}
    assert error.type == "invalid_request_error"
    assert len(error.message) < 500
    return error
