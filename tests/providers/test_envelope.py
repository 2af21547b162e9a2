"""Errors in the shapes that servers have, as a client sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.domain.errors import UpstreamFailed
from proxy.providers.answers import refusal_of
from proxy.providers.envelope import envelope

LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."


def told(status: int, body: Any) -> dict[str, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    error: dict[str, Any] = json.loads(envelope(status, data))["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    return error


def detail(*loc: str | int, msg: str = "Extra inputs are not permitted") -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ["body", *loc], "msg": msg, "input": "secret"}


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": {"detail": [detail("messages", 0, "user", "name")]}},
        {"object": "Error", "message": [detail("messages", 0, "user", "name")], "code": 3001},
        {"detail": [detail("messages", 0, "user", "name")]},
        {"error": {"message": {"detail": [detail("messages", 0, "user", "name")]}}},
    ],
)
def test_details_name_the_field(body: Any) -> None:
    """Of a list of details the message says where and what, `param` where; no input is shown."""
    error = told(422, body)
    assert error["message"] == "messages[0].user.name: Extra inputs are not permitted"
    assert error["param"] == "messages[0].user.name"
    assert error["code"] is None
    assert "secret" not in json.dumps(error)


def test_many_details() -> None:
    """Several fields are told together, no more than five of them."""
    error = told(422, {"detail": [detail(name) for name in "abcdefgh"]})
    assert [part.split(":")[0] for part in error["message"].split("; ")] == list("abcde")
    assert error["param"] == "a"


@pytest.mark.parametrize(
    "found",
    [
        [None, 5, "x", [], {}, {"msg": 5}, {"loc": ["body"]}],
        [{"msg": "No.", "loc": "body"}],
        [{"msg": "No.", "loc": [{"a": 1}, None, True, "\ud83d"]}],
    ],
)
def test_details_that_are_none(found: list[Any]) -> None:
    """What is not in the shape of details is passed over."""
    assert told(422, json.dumps({"detail": found}).encode("utf-8", "replace"))["type"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": LONG, "type": "BadRequestError", "param": None, "code": 400}}),
        (400, {"object": "error", "message": LONG, "type": "BadRequestError", "code": 400}),
        (400, {"error": {"message": LONG, "code": 400, "metadata": {"provider_name": "x"}}}),
        (
            400,
            {
                "object": "error",
                "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model "
                "with 32768 maximum context length",
                "type": "invalid_request_prompt",
                "param": None,
                "code": "3051",
            },
        ),
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (1200000) exceeds the maximum number of "
                        "tokens allowed (1048576).",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
        ),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size. try increasing it",
                    "type": "exceed_context_size_error",
                }
            },
        ),
        (413, {"error": {"message": LONG, "type": "x", "param": None, "code": None}}),
    ],
)
def test_a_prompt_that_is_too_long(status: int, body: Any) -> None:
    """Who has no word for a context that is too long gets OpenAI's, which clients know."""
    error = told(status, body)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


def test_a_word_of_the_servers_own_stays() -> None:
    """A code that is a word is the server's to say, and so is all of an error that has all keys."""
    groq = {"message": LONG, "type": "invalid_request_error", "code": "too_long"}
    assert told(400, {"error": groq})["code"] == "too_long"
    whole = json.dumps({"error": {**groq, "param": None}}, indent=2).encode()
    assert envelope(400, whole) == whole


def test_what_else_an_error_holds_passes() -> None:
    """Fields beside the four, such as Azure's innererror, reach the client in their order."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {}}}
    error = told(400, {"error": {"code": "content_filter", "status": 400, "innererror": inner}})
    assert list(error) == ["message", "type", "param", "code", "status", "innererror"]
    assert (error["code"], error["innererror"]) == ("content_filter", inner)


def test_a_list_of_one() -> None:
    """An error in a list is taken out of it, whatever keys it has."""
    error = {"message": "No.", "type": "x", "param": None, "code": None}
    assert told(400, [{"error": error}, {"error": {"message": "Another."}}]) == error


@pytest.mark.parametrize("code", [402, 400.5, True, ["x"], {"a": 1}])
def test_a_code_is_a_word_or_null(code: Any) -> None:
    """A number for a code is told as null: the status says the same."""
    error = {"message": "No.", "type": "x", "param": None, "code": code}
    assert told(400, {"error": error}) == {**error, "code": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"404 page not found",
        b"<html>",
        b'{"detail":"Not Found"}',
        b"[]",
        b'{"error":{"message":"Not Found","type":"Not Found","param":null,"code":404}}',
    ],
)
def test_a_path_that_nobody_serves(body: bytes) -> None:
    """A 404 without a word is the address's fault, and says so; it stays a 404."""
    message = told(404, body)["message"]
    assert "base_url may be wrong, or lack its /v1" in message


@pytest.mark.parametrize("body", [{"error": "model 'x' not found"}, {"detail": "No such model"}])
def test_a_404_with_an_error(body: Any) -> None:
    """A 404 that is a server's own says what the server said."""
    assert "base_url" not in told(404, body)["message"]


def test_gemini_says_400_of_a_wrong_key() -> None:
    """Gemini's 400 about our key is none of the client's doing: a 502 as for any 401."""
    inner = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"code": 400, "message": "API key not valid.", "details": [inner]}
    failed = refusal_of(400, {}, json.dumps([{"error": error}]).encode())
    assert isinstance(failed, UpstreamFailed)
    assert (failed.status, failed.cause) == (502, "401")
    said = {"error": {"message": 'You wrote "API_KEY_INVALID".', "code": 400}}
    assert refusal_of(400, {}, json.dumps(said).encode()).status == 400


WORDS = st.sampled_from(
    ["error", "message", "type", "param", "code", "detail", "loc", "msg", "body", LONG, "3051"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=20,
)


@given(st.sampled_from([400, 404, 413, 415, 422, 429]), VALUES)
def test_whatever_a_server_says(status: int, value: Any) -> None:
    """Any JSON at all becomes an error that an SDK can read: text, a word or null for a code."""
    error = told(status, value)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["code"] is None or isinstance(error["code"], str)


@given(st.sampled_from([400, 404, 500]), st.binary(max_size=200))
def test_bytes_that_are_no_json(status: int, body: bytes) -> None:
    """No bytes at all make reading an error fail."""
    assert refusal_of(status, {}, body).status in (status, 502)
