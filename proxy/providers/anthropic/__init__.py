"""Anthropic's Messages API: a request there, its answers and errors back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from proxy.domain.chat import ChatRequest
from proxy.providers.anthropic.answer import Answer
from proxy.providers.anthropic.refusal import refusal
from proxy.providers.anthropic.request import encode, translate
from proxy.providers.kind import Kind

#: Source: https://platform.claude.com/docs/en/api/versioning
VERSION: Final = "2023-06-01"

_VERSIONED = re.compile(r"/v\d+\Z", re.ASCII)


def url(base_url: str, model: str) -> str:
    """Where messages go; the base may say the version, as other vendors' do, or leave it out."""
    return f"{_versioned(base_url)}/messages"


def models_url(base_url: str) -> str:
    """Where models are listed, as many as there may be on a page.

    Source: https://platform.claude.com/docs/en/api/models-list
    """
    return f"{_versioned(base_url)}/models?limit=1000"


def _versioned(base_url: str) -> str:
    return base_url if _VERSIONED.search(base_url) else f"{base_url}/v1"


@cache
def headers(api_key: str | None) -> Mapping[str, str]:
    """The provider's own headers; there may be no key for a local server."""
    version = {"anthropic-version": VERSION}
    return {"x-api-key": api_key, **version} if api_key else version


def translator(request: ChatRequest, created: int) -> Answer:
    """What makes the answer to this request OpenAI's; `created` in Unix time."""
    return Answer(created, usage_wanted=request.include_usage)


KIND: Final = Kind(
    url=url,
    headers=headers,
    encode=encode,
    messages=translate,
    refusal=refusal,
    translator=translator,
    models_url=models_url,
    image_limits="anthropic",
)
