"""Anthropic's errors as OpenAI's. Pure.

Source: https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.domain.errors import INVALID_REQUEST, GatewayError
from proxy.providers.answers import failure_in, refusal_of, status_of
from proxy.providers.envelope import TYPES, error_object

_encode = msgspec.json.encode

#: What the provider tells only its own customer.
_OURS: Final = frozenset((401, 402, 403))

#: A spent account is told with 400.
_NO_CREDIT = re.compile(r"credit balance is too low", re.IGNORECASE)

_TOO_LONG = re.compile(r"prompt is too long|exceeds? (?:the )?context (?:limit|window)")

#: The field that a message begins with, and how OpenAI calls it.
_FIELD = re.compile(r"`?([a-z_]+(?:\.(?:effort|format))?)(?:\.[\w.]*)?[`:]")
_PARAMS: Final[Mapping[str, str]] = {
    **{name: name for name in ("model", "messages", "tools", "tool_choice", "thinking")},
    **{name: name for name in ("temperature", "top_p", "top_k", "max_tokens")},
    "system": "messages",
    "stop_sequences": "stop",
    "metadata": "user",
    "output_config.effort": "reasoning_effort",
    "output_config.format": "response_format",
}


def refusal(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and the body that stand for an answer with an error, in OpenAI's envelope."""
    error = _error(body)
    said = error.get("message")
    message = said if isinstance(said, str) and said else f"The upstream answered {status}."
    if _NO_CREDIT.search(message):
        status = 402
    type, code = TYPES.get(status, (INVALID_REQUEST, None))
    field = _FIELD.match(message)
    param = _PARAMS.get(field[1]) if field else None
    if status == 400 and _TOO_LONG.search(message):
        param, code = "messages", "context_length_exceeded"
    elif status == 404 and param == "model":
        code = "model_not_found"
    return status, _body(message, type, param, code)


def failure_of(body: bytes) -> GatewayError:
    """The failure that an error event in an answer's place is: that of the status with which its
    type is told elsewhere.
    """
    status = status_of(_error(body))
    if not status:
        return failure_in(error_body(body))
    status, told = refusal(status, body)
    return refusal_of(status, {}, told)


def error_body(body: bytes) -> bytes:
    """An error that came with a status of 200, or within a stream; `code` is the status that it
    stands for, where that says more than the message may.
    """
    error = _error(body)
    said = error.get("message")
    status = status_of(error)
    code = status if status in _OURS else None
    return _body(said if isinstance(said, str) else "", "server_error", None, code)


def _body(message: str, type: str, param: str | None, code: str | int | None) -> bytes:
    return _encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def _error(body: bytes) -> dict[str, Any]:
    error = error_object(body).get("error")
    return error if isinstance(error, dict) else {}
