"""What an upstream's refusal means to the client. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamRefused
from proxy.providers.envelope import IN_STREAM, envelope, error_object
from proxy.providers.headers import waiting

#: An error's body is read up to here; what is longer is no error message.
LARGEST_ERROR: Final = 64 * 1024

_LONGEST_MESSAGE: Final = 1000

_LINE_END = re.compile(rb"[\r\n]+")

#: The words that errors have in place of a status: codes and types of OpenAI's, types of vLLM's
#: and Anthropic's.
#: Source: https://platform.openai.com/docs/guides/error-codes
_STATUSES: Final[Mapping[str, int]] = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "NotFoundError": 404,
    "request_too_large": 413,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "requests": 429,
    "tokens": 429,
    "context_length_exceeded": 400,
    "invalid_request_error": 400,
    "BadRequestError": 400,
}

#: The client's own doing, and so the client's to see. The rest is between us and the provider.
_PASSED: Final = frozenset((400, 404, 413, 415, 422, 429))

#: How Gemini tells, with 400, that it does not know our key.
#: Source: https://ai.google.dev/gemini-api/docs/troubleshooting
_BAD_KEY: Final = b'"API_KEY_INVALID"'

#: How Gemini tells, in a 429's details, how long to wait.
#: Source: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
_RETRY_DELAY = re.compile(rb'"retryDelay":\s*"(\d{1,6})(?:\.\d+)?s"')


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error that an upstream's answer other than 200 becomes."""
    error: GatewayError
    if status == 400 and _BAD_KEY in body:
        status = 401
    if status in _PASSED:
        told = waiting(headers)
        if not told and (delay := _RETRY_DELAY.search(body)):
            told["retry-after"] = str(int(delay[1]) + 1)
        error = UpstreamRefused(status, envelope(status, body), headers=told)
    elif status in _FAILED:
        error = UpstreamFailed(_FAILED[status], headers={"x-should-retry": "false"})
    else:
        error = UpstreamFailed(f"The upstream answered {status}. Try again.")
    error.upstream_status, error.cause = status, str(status)
    return error


def failure_in(body: bytes) -> GatewayError:
    """The error that a body becomes which is no answer, though its status was 200, or an event
    that came in an answer's place: with the status that its code or type stands for.

    OpenRouter and others tell so of an error that came late.
    """
    answer = error_object(body)
    error = answer.get("error") or (answer if answer.get("object") == "error" else None)
    words = error if isinstance(error, dict) else {}
    said = words.get("message") if error is words else error
    status = status_of(words)
    if status in _FAILED or status in _PASSED:
        return refusal_of(status, {}, body)
    if isinstance(said, str) and said:
        failure = UpstreamFailed(f"The upstream answered with an error: {said[:_LONGEST_MESSAGE]}")
    else:
        failure = UpstreamFailed("The upstream's answer holds no choices. Try again.")
    failure.upstream_status, failure.cause = status, str(status) if status else ""
    return failure


def failure_told(data: bytes) -> GatewayError:
    """The error that an event of a stream tells, by its data."""
    data = data if len(data) <= LARGEST_ERROR else b""
    failure = failure_in(data)
    if failure.upstream_status not in _FAILED:
        # A line end within JSON is white space; within an event it would end its line.
        failure.said = _LINE_END.sub(b" ", envelope(IN_STREAM, data))
    return failure


def status_of(error: Mapping[str, Any]) -> int:
    """The status that an error stands for which came without one; 0 where that is not known."""
    for name in ("code", "type"):
        word = error.get(name)
        if isinstance(word, str):
            word = int(word) if word.isdecimal() and len(word) == 3 else _STATUSES.get(word, 0)
        if type(word) is int and 400 <= word <= 599:
            return word
    return 0


_CREDENTIALS: Final = "The upstream refused the gateway's credentials. Tell your platform team."
_REDIRECT: Final = "The upstream redirects, which is not followed. Tell your platform team."
_FAILED: Final = {
    401: _CREDENTIALS,
    402: "The gateway's account at the upstream has no credit. Tell your platform team.",
    403: _CREDENTIALS,
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECT),
}
