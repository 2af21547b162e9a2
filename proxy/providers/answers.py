"""What an upstream's refusal means to the client. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamRefused
from proxy.providers.envelope import envelope, error_object
from proxy.providers.headers import waiting

#: An error's body is read up to here; what is longer is no error message.
LARGEST_ERROR: Final = 64 * 1024

_LONGEST_MESSAGE: Final = 1000

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
    error.cause = str(status)
    return error


def failure_in(body: bytes) -> UpstreamFailed:
    """The error that a body becomes which is no answer, though its status was 200.

    OpenRouter and others tell so of an error that came late.
    """
    error = error_object(body).get("error")
    said = error.get("message") if isinstance(error, dict) else error
    code = error.get("code") if isinstance(error, dict) else None
    failure = _FAILED.get(code) if isinstance(code, int) else None
    if failure is not None:
        return UpstreamFailed(failure, headers={"x-should-retry": "false"})
    if isinstance(said, str) and said:
        return UpstreamFailed(f"The upstream answered with an error: {said[:_LONGEST_MESSAGE]}")
    return UpstreamFailed("The upstream's answer holds no choices. Try again.")


_CREDENTIALS: Final = "The upstream refused the gateway's credentials. Tell your platform team."
_REDIRECT: Final = "The upstream redirects, which is not followed. Tell your platform team."
_FAILED: Final = {
    401: _CREDENTIALS,
    402: "The gateway's account at the upstream has no credit. Tell your platform team.",
    403: _CREDENTIALS,
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECT),
}
