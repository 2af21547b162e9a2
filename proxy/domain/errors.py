"""Every refusal a client can see, as one flat hierarchy.

    GatewayError                 status, message, type, code, param, headers
    ├── BadRequest               400 invalid_request_error; names the field
    │   └── ImageRefused         400; also carries a reason from a closed list
    ├── PayloadTooLarge          413 request_too_large
    ├── UnsupportedMedia         415
    ├── Unauthorized             401 invalid_api_key
    ├── Forbidden                403 permission_denied
    ├── NotFound                 404
    │   └── ModelNotFound        404 model_not_found
    ├── MethodNotAllowed         405
    ├── LimitExceeded            429 rate_limit_exceeded | insufficient_quota
    ├── UpstreamRefused          an upstream's own 4xx, relayed
    ├── UpstreamFailed           502; the upstream did not answer as it should
    │   ├── UpstreamTimeout      504
    │   └── AnswerTooLarge       502; more than can be held
    ├── NoTarget                 503; none of the model's upstreams can be asked now
    ├── StoreUnavailable         503; the ledger cannot be reached
    └── Draining                 503; this worker is shutting down

The envelope is OpenAI's: `{"error": {"message", "type", "param", "code"}}`, all
four keys always present.
Source: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class GatewayError(Exception):
    """A refusal with everything the edge needs to write it.

    `reason` is the word that metrics and the log use: it comes from the code,
    never from a request.
    """

    status = 500
    type = SERVER_ERROR
    code: str | None = None
    reason = "internal"
    upstream_status = 0  # that its answer stands for, whichever it came with; 0: it told none
    cause = ""  # for the log: what lies behind it, never in words of others
    billed = True  # an upstream that was asked may have done the work all the same, and bill it
    said = b""  # the upstream's own words within a stream, in the envelope; empty: not to be told

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})
        if code is not None:
            self.code = code

    def envelope(self) -> dict[str, dict[str, str | None]]:
        """OpenAI's error object, ready to be encoded."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class BadRequest(GatewayError):
    status = 400
    type = INVALID_REQUEST
    reason = "invalid_request"


class ImageRefused(BadRequest):
    """An image that the policy does not let through; `reason` is a metric label."""

    def __init__(
        self, reason: str, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.reason = reason


class PayloadTooLarge(GatewayError):
    status = 413
    type = INVALID_REQUEST
    code = "request_too_large"
    reason = "too_large"


class UnsupportedMedia(GatewayError):
    status = 415
    type = INVALID_REQUEST
    reason = "unsupported_media"


class Unauthorized(GatewayError):
    status = 401
    type = INVALID_REQUEST
    code = "invalid_api_key"
    reason = "unauthorized"


class Forbidden(GatewayError):
    status = 403
    type = INVALID_REQUEST
    code = "permission_denied"
    reason = "forbidden"


class NotFound(GatewayError):
    status = 404
    type = INVALID_REQUEST
    code = "not_found"
    reason = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"
    reason = "model_not_found"


class MethodNotAllowed(GatewayError):
    status = 405
    type = INVALID_REQUEST
    code = "method_not_allowed"
    reason = "method_not_allowed"


class LimitExceeded(GatewayError):
    """A limit that has no room. `type` is set per unit: requests, tokens or insufficient_quota."""

    status = 429
    code = "rate_limit_exceeded"
    reason = "rate_limit"

    def __init__(
        self, message: str, *, type: str, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, code=code, headers=headers)
        self.type = type
        self.reason = "budget" if code == "insufficient_quota" else "rate_limit"


class UpstreamRefused(GatewayError):
    """The upstream said no to this request; its envelope passes as it came."""

    reason = "upstream_refused"
    billed = False

    def __init__(
        self, status: int, body: bytes, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"the upstream answered {status}", headers=headers)
        self.status = status
        self.body = body


class UpstreamFailed(GatewayError):
    status = 502
    reason = "upstream_failed"
    billed = False


class UpstreamTimeout(UpstreamFailed):
    status = 504
    reason = "upstream_timeout"
    billed = True


class AnswerTooLarge(UpstreamFailed):
    billed = True


class NoTarget(GatewayError):
    status = 503
    reason = "no_target"
    billed = False


class StoreUnavailable(GatewayError):
    status = 503
    reason = "store_unavailable"


class Draining(GatewayError):
    status = 503
    reason = "draining"
