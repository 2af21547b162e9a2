"""What an upstream's refusal becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.domain.errors import UpstreamFailed, UpstreamRefused
from proxy.providers.answers import failure_in, failure_told, refusal_of

FULL = {"message": "No.", "type": "invalid_request_error", "param": "messages", "code": None}


def refused(status: int, body: Any, headers: dict[str, str] | None = None) -> UpstreamRefused:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = refusal_of(status, headers or {}, data)
    assert isinstance(error, UpstreamRefused)
    assert error.status == status
    return error


def told(status: int, body: Any) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(refused(status, body).body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("status", [400, 404, 413, 415, 422, 429])
def test_the_clients_own_doing_passes(status: int) -> None:
    """What the client can mend reaches it byte for byte."""
    body = json.dumps({"error": {**FULL, "more": 10**30}, "id": 1}, indent=3).encode()
    assert refused(status, body).body == body


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "No.", "code": "x"}}, "No.", "x"),
        ({"error": {"message": "No.", "code": 400}}, "No.", None),
        ({"error": "model not found"}, "model not found", None),
        ({"object": "error", **FULL, "code": 400}, "No.", None),
        ({"object": "error", **FULL, "type": 10**30}, "No.", None),
        ({"error": {"message": {"detail": []}, "code": "x"}}, "The upstream answered 400.", "x"),
        ({"error": None}, "The upstream answered 400.", None),
        ({"error": ["x"]}, "The upstream answered 400.", None),
        ({}, "The upstream answered 400.", None),
        ([], "The upstream answered 400.", None),
        (b"", "The upstream answered 400.", None),
        (b"<html>", "The upstream answered 400.", None),
        (b"\xff\xfe", "The upstream answered 400.", None),
        (b"[" * 100_000, "The upstream answered 400.", None),
        (b'{"error":{"message":"cut o', "The upstream answered 400.", None),
    ],
)
def test_other_shapes_become_the_envelope(body: Any, message: str, code: str | None) -> None:
    """A refusal in another shape, or in none, becomes an envelope with all four keys."""
    error = told(400, body)
    assert (error["message"], error["code"]) == (message, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "type", "code"),
    [
        (429, "requests", "rate_limit_exceeded"),
        (413, "invalid_request_error", "request_too_large"),
        (404, "invalid_request_error", None),
    ],
)
def test_the_status_tells_what_the_body_does_not(status: int, type: str, code: str | None) -> None:
    """Without a body the type and code are those of the status."""
    error = told(status, b"")
    assert (error["type"], error["code"]) == (type, code)


def test_how_long_to_wait_passes() -> None:
    """The headers that SDKs wait by pass, and no others."""
    given = {"retry-after": "3", "retry-after-ms": "2500", "x-should-retry": "true"}
    error = refused(429, {"error": FULL}, {**given, "set-cookie": "a", "openai-organization": "x"})
    assert error.headers == given


def test_how_long_to_wait_may_be_in_the_error() -> None:
    """Gemini's delay becomes the header that SDKs wait by, where no header says anything."""
    inner = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
    body = [{"error": {"code": 429, "message": "You exceeded your quota.", "details": [inner]}}]
    assert refused(429, body).headers == {"retry-after": "35"}
    assert refused(429, body, {"retry-after": "3"}).headers == {"retry-after": "3"}
    assert refused(429, {"error": {"message": '"retryDelay": "9s"'}}).headers == {}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (401, "credentials"),
        (403, "credentials"),
        (402, "credit"),
        (301, "redirects"),
        (307, "redirects"),
        (500, "answered 500"),
        (503, "answered 503"),
        (204, "answered 204"),
        (418, "answered 418"),
        (101, "answered 101"),
    ],
)
def test_what_is_between_us_and_the_provider(status: int, word: str) -> None:
    """The gateway's own trouble with a provider is a 502 that shows none of its words."""
    error = refusal_of(status, {}, b'{"error":{"message":"key sk-secret is bad"}}')
    assert isinstance(error, UpstreamFailed)
    assert error.status == 502
    assert word in error.message
    assert "secret" not in json.dumps(error.envelope())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "holds no choices"),
        (b"[1]", "holds no choices"),
        (b'{"error": {}}', "holds no choices"),
        (b'{"error": {"message": 5, "code": "x"}}', "holds no choices"),
        (b'{"error": "just text"}', "with an error: just text"),
        (b'{"error": {"message": "busy", "code": 502}}', "with an error: busy"),
        (b'{"error": {"message": "sk-1 is wrong", "code": 401}}', "gateway's credentials"),
        (b'{"error": {"message": "pay", "code": 402}}', "no credit"),
    ],
)
def test_an_error_in_place_of_an_answer(body: bytes, message: str) -> None:
    """An error of status 200 is a 502 with the upstream's words, but for those about our key."""
    error = failure_in(body)
    assert (error.status, error.type, error.billed) == (502, "server_error", False)
    assert message in error.message
    assert "sk-1" not in error.message


def test_geminis_errors_in_place_of_an_answer() -> None:
    """Gemini's words for our key and for a wait mean there what they mean with their status."""
    bad = {"code": 400, "message": "sk-1", "details": [{"reason": "API_KEY_INVALID"}]}
    failed = failure_in(json.dumps({"error": bad}).encode())
    assert (failed.status, failed.cause) == (502, "401")
    assert "sk-1" not in failed.message
    limited = {"code": 429, "message": "Slow.", "details": [{"retryDelay": "34.07s"}]}
    failed = failure_in(json.dumps([{"error": limited}]).encode())
    assert (failed.status, failed.headers) == (429, {"retry-after": "35"})


@pytest.mark.parametrize(("code", "status"), [(401, 401), (429, 429), (503, 503), ("x", 0)])
def test_the_status_that_an_error_stands_for(code: object, status: int) -> None:
    """It is a number of its own; 0 where the error tells none."""
    error = json.dumps({"error": {"message": "no", "code": code}}).encode()
    assert failure_in(error).upstream_status == status
    assert failure_told(error).upstream_status == status


def test_what_a_stream_tells_of_our_key() -> None:
    """Gemini's words for our key are not the client's to read in a stream, either."""
    bad = {"code": 400, "message": "sk-1", "details": [{"reason": "API_KEY_INVALID"}]}
    failed = failure_told(json.dumps({"error": bad}).encode())
    assert (failed.status, failed.cause, failed.said) == (502, "401", b"")


def test_a_long_error_is_cut() -> None:
    """An upstream's words are no book."""
    assert len(failure_in(b'{"error": "' + b"x" * 10_000 + b'"}').message) < 1100
