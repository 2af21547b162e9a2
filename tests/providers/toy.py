"""A provider that is like no other, as one would be added: this file, and its row in the registry.

It is asked `{"ask": […], "most": n, "live": bool}` at /talk with a `toy-key`. It says
`{"say": "…"}`, and at last `{"over": {"heard": n, "said": n}}`: live as events, else as one list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.routing import Target
from proxy.domain.sse import END, EventSplitter, data_of, event
from proxy.domain.steps import Steps
from proxy.providers.kind import Kind

_encode = msgspec.json.encode


def url(base_url: str, model: str) -> str:
    return f"{base_url}/talk"


def headers(api_key: str | None) -> Mapping[str, str]:
    return {"toy-key": api_key} if api_key else {}


def messages(request: ChatRequest) -> Steps[Pieces]:
    yield
    return [b'"ask":', bytes(request.fields["messages"])]


def encode(request: ChatRequest, said: Pieces | None, target: Target, output_param: str) -> Pieces:
    own = {"toy": target.model, "most": request.cap, "live": request.stream}
    return [_encode(own)[:-1], b",", *(said or ()), b"}"]


class Answer:
    """Its answer as OpenAI's."""

    def __init__(self, created: int) -> None:
        self._splitter = EventSplitter()
        self._base = {"id": "toy", "created": created, "model": "toy"}

    def feed(self, data: bytes) -> bytes:
        came = (msgspec.json.decode(data_of(one) or b"{}") for one in self._splitter.feed(data))
        return b"".join(map(self._chunk, came))

    def whole(self, body: bytes) -> bytes:
        *said, last = msgspec.json.decode(body)
        message = {"role": "assistant", "content": "".join(one["say"] for one in said)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {**self._base, "object": "chat.completion", "choices": [choice]}
        return _encode({**made, "usage": _usage(last["over"])})

    def so_far(self) -> tuple[None, bool]:
        return None, False

    def _chunk(self, came: dict[str, Any]) -> bytes:
        base = {**self._base, "object": "chat.completion.chunk"}
        if "wrong" in came:
            error = {"message": came["wrong"], "type": "server_error", "param": None, "code": None}
            return event(_encode({"error": error}))
        if "over" not in came:
            choice = {"index": 0, "delta": {"content": came["say"]}, "finish_reason": None}
            return event(_encode({**base, "choices": [choice]}))
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        last = event(_encode({**base, "choices": [choice]}))
        return last + event(_encode({**base, "choices": [], "usage": _usage(came["over"])})) + END


def _usage(over: Mapping[str, int]) -> dict[str, int]:
    heard, said = over["heard"], over["said"]
    return {"prompt_tokens": heard, "completion_tokens": said, "total_tokens": heard + said}


def refusal(status: int, body: bytes) -> tuple[int, bytes]:
    error = {"message": body.decode(), "type": "toy_error", "param": None, "code": None}
    return {418: 429}.get(status, status), _encode({"error": error})


KIND = Kind(
    url=url,
    headers=headers,
    encode=encode,
    messages=messages,
    refusal=refusal,
    translator=lambda request, created: Answer(created),
)
