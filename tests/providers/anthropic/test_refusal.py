"""Anthropic's errors as the client sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamRefused
from proxy.providers.answers import refusal_of
from proxy.providers.anthropic import KIND

RETRY = {"retry-after": "7", "request-id": "req_1", "anthropic-ratelimit-tokens-limit": "5"}


def seen(status: int, kind: str, message: Any) -> GatewayError:
    """What the relay makes of an error."""
    told = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return refusal_of(*made(status, json.dumps(told).encode()))


def made(status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
    assert KIND.refusal is not None
    status, body = KIND.refusal(status, body)
    return status, RETRY, body


@pytest.mark.parametrize(
    ("status", "kind", "message", "type", "param", "code"),
    [
        (
            *(400, "invalid_request_error", "temperature: Input should be at most 1"),
            *("invalid_request_error", "temperature", None),
        ),
        (
            *(400, "invalid_request_error", "`temperature` is deprecated for this model."),
            *("invalid_request_error", "temperature", None),
        ),
        (
            *(400, "invalid_request_error", "messages.1.content.0.image.source: bad"),
            *("invalid_request_error", "messages", None),
        ),
        (
            *(400, "invalid_request_error", "stop_sequences: each must be non-empty"),
            *("invalid_request_error", "stop", None),
        ),
        (
            *(400, "invalid_request_error", "output_config.format.schema: no"),
            *("invalid_request_error", "response_format", None),
        ),
        (
            *(400, "invalid_request_error", "made_up: Extra inputs are not permitted"),
            *("invalid_request_error", None, None),
        ),
        (
            *(400, "invalid_request_error", "prompt is too long: 207791 tokens > 200000 maximum"),
            *("invalid_request_error", "messages", "context_length_exceeded"),
        ),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000",
            *("invalid_request_error", "messages", "context_length_exceeded"),
        ),
        (
            *(404, "not_found_error", "model: claude-9"),
            *("invalid_request_error", "model", "model_not_found"),
        ),
        (404, "not_found_error", "Not found", "invalid_request_error", None, None),
        (
            *(413, "request_too_large", "Request exceeds the maximum size"),
            *("invalid_request_error", None, "request_too_large"),
        ),
        (429, "rate_limit_error", "Slow down.", "requests", None, "rate_limit_exceeded"),
    ],
)
def test_the_clients_own_doing(
    status: int, kind: str, message: str, type: str, param: str | None, code: str | None
) -> None:
    """What the client can mend has its status and the vendor's words, in OpenAI's envelope."""
    error = seen(status, kind, message)
    assert isinstance(error, UpstreamRefused)
    assert error.status == status
    assert json.loads(error.body) == {
        "error": {"message": message, "type": type, "param": param, "code": code}
    }
    assert error.headers == {"retry-after": "7"}


@pytest.mark.parametrize(
    ("status", "kind", "message", "said"),
    [
        (401, "authentication_error", "invalid x-api-key sk-ant-1", "credentials"),
        (403, "permission_error", "Your API key sk-ant-1 may not", "credentials"),
        (402, "billing_error", "sk-ant-1 has not paid", "credit"),
        (
            *(400, "invalid_request_error"),
            "Your credit balance is too low to access the Anthropic API (sk-ant-1).",
            "credit",
        ),
        (500, "api_error", "Internal server error sk-ant-1", "answered 500. Try again"),
        (504, "timeout_error", "sk-ant-1", "answered 504. Try again"),
        (529, "overloaded_error", "Overloaded sk-ant-1", "answered 529. Try again"),
    ],
)
def test_what_is_between_us_and_the_provider(
    status: int, kind: str, message: str, said: str
) -> None:
    """All else is the gateway's failure, a spent account too; what may pass is to be retried."""
    error = seen(status, kind, message)
    assert isinstance(error, UpstreamFailed)
    assert said in error.message
    assert "sk-ant" not in error.message
    assert ("x-should-retry" in error.headers) == ("Try again" not in error.message)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"error":5}', b'{"error":{"message":5,"type":[]}}', b"\xff", b"["],
)
def test_errors_in_no_shape(body: bytes) -> None:
    """An error that is none of the API's is told by its status."""
    error = refusal_of(*made(400, body))
    assert isinstance(error, UpstreamRefused)
    assert json.loads(error.body)["error"]["message"] == "The upstream answered 400."
