"""The refusals, as OpenAI's clients know them."""

from __future__ import annotations

import pytest

from proxy.domain import errors
from proxy.domain.errors import GatewayError, ImageRefused, LimitExceeded, UpstreamRefused

TABLE = [
    (errors.BadRequest, 400, "invalid_request_error", None),
    (errors.PayloadTooLarge, 413, "invalid_request_error", "request_too_large"),
    (errors.UnsupportedMedia, 415, "invalid_request_error", None),
    (errors.Unauthorized, 401, "invalid_request_error", "invalid_api_key"),
    (errors.Forbidden, 403, "invalid_request_error", "permission_denied"),
    (errors.NotFound, 404, "invalid_request_error", "not_found"),
    (errors.ModelNotFound, 404, "invalid_request_error", "model_not_found"),
    (errors.MethodNotAllowed, 405, "invalid_request_error", "method_not_allowed"),
    (errors.UpstreamFailed, 502, "server_error", None),
    (errors.UpstreamTimeout, 504, "server_error", None),
    (errors.StoreUnavailable, 503, "server_error", None),
    (errors.Draining, 503, "server_error", None),
]


@pytest.mark.parametrize(("kind", "status", "type", "code"), TABLE)
def test_the_table(kind: type[GatewayError], status: int, type: str, code: str | None) -> None:
    """Each refusal has its status, type and code, and an envelope with all four keys."""
    error = kind("No.")
    assert error.status == status
    expected = {"message": "No.", "type": type, "param": None, "code": code}
    assert error.envelope() == {"error": expected}
    assert error.headers == {}
    assert error.reason != "internal"


def test_what_is_given_is_told() -> None:
    """A field, a code and headers given to a refusal are its own, not its class's."""
    error = errors.BadRequest("No.", param="n", code="invalid_value", headers={"a": "b"})
    assert error.envelope()["error"]["param"] == "n"
    assert error.envelope()["error"]["code"] == "invalid_value"
    assert error.headers == {"a": "b"}
    assert errors.BadRequest("No.").code is None


def test_refusals_with_something_of_their_own() -> None:
    """An image's reason, a limit's type and an upstream's body are kept."""
    image = ImageRefused("format", "No.", param="messages[0]")
    assert (image.status, image.reason, image.param) == (400, "format", "messages[0]")
    limit = LimitExceeded("No.", type="tokens", code="rate_limit_exceeded")
    assert (limit.status, limit.type, limit.reason) == (429, "tokens", "rate_limit")
    upstream = UpstreamRefused(422, b"{}", headers={"retry-after": "1"})
    assert (upstream.status, upstream.body) == (422, b"{}")
    assert upstream.headers == {"retry-after": "1"}
