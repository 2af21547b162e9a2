"""Writing answers: JSON, errors in OpenAI's envelope, and the headers that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from proxy.domain.errors import GatewayError, UpstreamRefused
from proxy.domain.sse import event

#: Who is answering: an error of the gateway's own, or what an upstream said.
SOURCE = "x-visiongate-source"
REQUEST_ID = "x-request-id"

#: What goes with every error of a status: a 401 names its scheme (RFC 9110 section 11.6.1).
_WITH: Final[Mapping[int, Mapping[str, str]]] = {401: {"www-authenticate": "Bearer"}}


def json_answer(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return raw_json(msgspec.json.encode(value), status, headers)


def raw_json(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def error_answer(error: GatewayError) -> web.Response:
    """The error's envelope; an upstream's own refusal passes as it came."""
    if isinstance(error, UpstreamRefused):
        headers = {**error.headers, SOURCE: "upstream"}
        return raw_json(error.body, error.status, headers)
    headers = {**_WITH.get(error.status, {}), **error.headers, SOURCE: "gateway"}
    return json_answer(error.envelope(), error.status, headers)


def error_event(error: GatewayError) -> bytes:
    """The event that ends a broken stream: both official SDKs raise on it."""
    said = error.said or (error.body if isinstance(error, UpstreamRefused) else b"")
    return event(said or msgspec.json.encode(error.envelope()))
