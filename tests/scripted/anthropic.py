"""An upstream that speaks Anthropic's Messages API, and takes no other request than it does.

Its answers are recorded ones; what is wrong with a request is refused in the vendor's words.
Source: https://platform.claude.com/docs/en/api/messages, https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec

from tests.providers.anthropic import recorded
from tests.scripted.replies import json_reply
from tests.scripted.steps import End, Head, Recorded, Send, Step

_Words = Annotated[str, msgspec.Meta(min_length=1)]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]+$")]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class _Cache(_Strict, tag_field="type", tag="ephemeral"):
    ttl: Literal["5m", "1h"] = "5m"


class _Block(_Strict, tag_field="type", kw_only=True):
    cache_control: _Cache | None = None


class Text(_Block, tag="text"):
    text: _Words


class Link(_Strict, tag_field="type", tag="url"):
    url: Annotated[str, msgspec.Meta(pattern="^https://")]


class Data(_Strict, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: bytes


class Image(_Block, tag="image"):
    source: Link | Data


class ToolUse(_Block, tag="tool_use"):
    id: _Id
    name: _Words
    input: dict[str, Any]


class ToolResult(_Block, tag="tool_result"):
    tool_use_id: _Id
    content: str | list[Text | Image] = ""
    is_error: bool = False


class _Turn(_Strict):
    role: Literal["user", "assistant"]
    content: (
        _Words | Annotated[list[Text | Image | ToolUse | ToolResult], msgspec.Meta(min_length=1)]
    )


class _Schema(msgspec.Struct):
    type: Literal["object"]


class _Tool(_Strict):
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: _Schema
    description: str = ""
    strict: bool = False
    cache_control: _Cache | None = None


class _Auto(_Strict, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool = False


class _Any(_Auto, tag="any"):
    pass


class _None(_Strict, tag_field="type", tag="none"):
    pass


class _Named(_Auto, tag="tool", kw_only=True):
    name: str


class _Metadata(_Strict):
    user_id: str | None = None


class _Format(_Strict, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class _Output(_Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None


class Asked(_Strict):
    """A request, and all that one can hold."""

    model: str
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    system: str | list[Text] = ""
    stream: bool = False
    temperature: _Share = 1.0
    top_p: _Share = 1.0
    top_k: int = 0
    stop_sequences: list[_Words] = []
    metadata: _Metadata | None = None
    tools: list[_Tool] = []
    tool_choice: _Auto | _Any | _None | _Named | None = None
    output_config: _Output | None = None
    thinking: dict[str, Any] | None = None
    cache_control: _Cache | None = None


def messages_api(name: str) -> Callable[[Recorded], Iterable[Step]]:
    """A script that answers a right request with the answer recorded by that name."""

    def answer(request: Recorded) -> Iterable[Step]:
        wrong = _wrong(request)
        if wrong is not None:
            return wrong
        if read(request).stream:
            return stream(recorded(f"{name}.sse"))
        return json_reply(200, msgspec.json.decode(recorded(f"{name}.json")))

    return answer


def stream(events: bytes) -> list[Step]:
    """A stream, an event to a Send."""
    sends = [Send(event + b"\n\n") for event in events.split(b"\n\n") if event]
    return [Head(200, (("Content-Type", "text/event-stream; charset=utf-8"),)), *sends, End()]


def error(status: int, kind: str, message: str) -> list[Step]:
    """An error in the vendor's shape."""
    told = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return json_reply(status, told, (("request-id", "req_1"),))


def read(request: Recorded) -> Asked:
    """Raises msgspec.ValidationError."""
    return msgspec.json.decode(request.body, type=Asked)


def _wrong(request: Recorded) -> list[Step] | None:
    if (request.method, request.path) != ("POST", "/v1/messages"):
        return error(404, "not_found_error", "Not found")
    if request.header("x-api-key") is None or request.header("authorization") is not None:
        return error(401, "authentication_error", "x-api-key header is required")
    if request.header("anthropic-version") != "2023-06-01":
        return error(400, "invalid_request_error", "anthropic-version: header is required")
    try:
        asked = read(request)
    except msgspec.ValidationError as fault:
        return error(400, "invalid_request_error", str(fault))
    turns = [
        [turn.content] if isinstance(turn.content, str) else turn.content for turn in asked.messages
    ]
    for number, (turn, after) in enumerate(zip(turns, [*turns[1:], []], strict=True)):
        called = [block.id for block in turn if isinstance(block, ToolUse)]
        results = [b.tool_use_id for b in after[: len(called)] if isinstance(b, ToolResult)]
        if sorted(called) != sorted(results):
            return error(
                400,
                "invalid_request_error",
                f"messages.{number}: `tool_use` ids were found without `tool_result` blocks "
                "immediately after",
            )
    roles = [turn.role for turn in asked.messages]
    if any(a == b for a, b in pairwise(roles)):
        return error(400, "invalid_request_error", "messages: roles must alternate")
    return None
