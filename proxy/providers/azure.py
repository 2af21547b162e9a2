"""Azure OpenAI: OpenAI's API with addresses and a key header of its own, in which a model is the
name of a deployment.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any, Final

import msgspec

from proxy.domain.chat import ChatRequest
from proxy.domain.sse import EventSplitter, data_of, event
from proxy.providers import openai
from proxy.providers.azure_urls import dated_models_url, dated_url, models_url, url
from proxy.providers.kind import Kind, Variant


@cache
def headers(api_key: str | None) -> Mapping[str, str]:
    """The key, in Azure's own header."""
    return {"api-key": api_key} if api_key else {}


class _Annotated:
    """A stream whose first event, about the prompt's filters, has no choices: it gets an empty one,
    since who did not ask for the usage expects one in each, and may take it blindly. From the
    first that has one, all passes as it comes.
    """

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        self._splitter: EventSplitter | None = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        splitter = self._splitter
        if splitter is None:
            return data
        passed = []
        for one in splitter.feed(data):
            if self._splitter is not None:
                chunk = _object(data_of(one) or b"")
                if chunk is not None and chunk.get("choices") == [] and not chunk.get("usage"):
                    one = event(msgspec.json.encode({**chunk, "choices": [_NOTHING]}))
                elif chunk is not None:
                    self._splitter = None
            passed.append(one)
        if self._splitter is None:
            passed.append(splitter.rest())
        return b"".join(passed)

    def whole(self, body: bytes) -> bytes:
        return body

    def so_far(self) -> tuple[None, bool]:
        return None, False


_NOTHING: Final = {"index": 0, "delta": {}, "finish_reason": None}


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        chunk = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None


def _translator(request: ChatRequest, created: int) -> _Annotated | None:
    return None if request.include_usage or not request.stream else _Annotated()


def _variant(of: Variant) -> Kind:
    if not of.api_version:
        return KIND
    dated = partial(dated_url, of.api_version)
    return replace(KIND, url=dated, models_url=partial(dated_models_url, of.api_version))


KIND: Final = Kind(
    url=url,
    headers=headers,
    encode=openai.encode,
    translator=_translator,
    variant=_variant,
    models_url=models_url,
    deployments=True,
    image_limits="azure",
)
