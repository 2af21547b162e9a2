"""The parameters: what each may be, and what is refused unless a plan allows it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.parameters import LARGEST_CAP, LARGEST_N
from proxy.domain.vocabulary import REFUSED
from tests.domain.bodies import hello, parse, refused

WRONG = [
    ("model", 1, "invalid_type"),
    ("model", ["gpt-4o"], "invalid_type"),
    ("model", "", "invalid_value"),
    ("stream", 1, "invalid_type"),
    ("stream", "true", "invalid_type"),
    ("temperature", "1", "invalid_type"),
    ("temperature", True, "invalid_type"),
    ("temperature", -0.01, "invalid_value"),
    ("temperature", 2.0001, "invalid_value"),
    ("temperature", 10**30, "invalid_value"),
    ("max_tokens", 0, "invalid_value"),
    ("max_tokens", -1, "invalid_value"),
    ("max_tokens", 1.0, "invalid_type"),
    ("max_tokens", "5", "invalid_type"),
    ("max_tokens", True, "invalid_type"),
    ("max_tokens", LARGEST_CAP + 1, "invalid_value"),
    ("max_completion_tokens", 0, "invalid_value"),
    ("max_completion_tokens", [], "invalid_type"),
    ("n", 0, "invalid_value"),
    ("n", LARGEST_N + 1, "invalid_value"),
    ("n", 1.5, "invalid_type"),
    ("n", False, "invalid_type"),
    ("detail", "original", "invalid_value"),
    ("detail", "HIGH", "invalid_value"),
    ("detail", "", "invalid_value"),
    ("detail", 1, "invalid_type"),
    ("tools", {}, "invalid_type"),
    ("tools", "x", "invalid_type"),
    ("stream_options", [], "invalid_type"),
    ("stream_options", True, "invalid_type"),
]


@pytest.mark.parametrize(("name", "value", "code"), WRONG)
def test_a_wrong_value_is_refused(name: str, value: Any, code: str) -> None:
    """The refusal names the field, in its message as in `param`, and says what kind it is."""
    error = refused(hello(**{name: value}))
    assert (error.param, error.code) == (name, code)
    assert f"'{name}'" in error.message


def test_the_type_that_came_is_told() -> None:
    """A wrong type is told in words, as OpenAI has them."""
    assert refused(hello(max_tokens="5")).message == (
        "Invalid type for 'max_tokens': expected a positive integer, but got a string instead."
    )


@pytest.mark.parametrize("name", ["model", "messages"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_required_fields(name: str, how: str) -> None:
    """A required field that is absent or null is told to be missing."""
    body = hello()
    if how == "null":
        body[name] = None
    else:
        del body[name]
    error = refused(body)
    assert (error.param, error.code) == (name, "missing_required_parameter")


@pytest.mark.parametrize("value", [0, 2, 0.0, 2.0, 1.5])
def test_temperature_takes_both_ends(value: float) -> None:
    """Temperature may be 0 and 2, whole or not."""
    assert parse(hello(temperature=value)).model == "gpt-4o"


def test_null_counts_as_absent() -> None:
    """Every optional parameter may be null, and is then as if it were not there."""
    names = ("stream", "temperature", "max_tokens", "max_completion_tokens", "n", "detail")
    nulls = dict.fromkeys((*names, "tools", "stream_options", *REFUSED))
    request = parse(hello(**nulls))
    assert (request.stream, request.include_usage, request.cap, request.n) == (
        False,
        False,
        None,
        1,
    )


def test_the_largest_values_are_taken() -> None:
    """The largest cap and the largest n are valid."""
    request = parse(hello(max_tokens=LARGEST_CAP, n=LARGEST_N))
    assert (request.cap, request.n) == (LARGEST_CAP, LARGEST_N)


@pytest.mark.parametrize(
    ("fields", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 5),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
        ({"max_tokens": None, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": None}, 7),
        ({}, None),
    ],
)
def test_either_cap_binds(fields: dict[str, Any], cap: int | None) -> None:
    """Of the two names for the output cap, the smaller value counts."""
    assert parse(hello(**fields)).cap == cap


def test_stream_options_need_a_stream() -> None:
    """stream_options without stream is refused, as OpenAI does."""
    for stream in ({}, {"stream": False}, {"stream": None}):
        error = refused(hello(stream_options={"include_usage": True}, **stream))
        assert error.param == "stream_options"
    assert parse(hello(stream=True, stream_options={"include_usage": True})).include_usage


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"include_usage": False}, False), ({"include_usage": None}, False), ({}, False)],
)
def test_usage_is_wanted_where_asked_for(options: Any, wanted: bool) -> None:
    """Only include_usage: true asks for usage."""
    assert parse(hello(stream=True, stream_options=options)).include_usage is wanted


def test_include_usage_is_a_boolean() -> None:
    """include_usage of another type is refused by its whole path."""
    body = hello(stream=True, stream_options={"include_usage": 1})
    assert refused(body).param == "stream_options.include_usage"


@pytest.mark.parametrize("effort", ["x" * 33, 5, ["high"]])
def test_an_effort_is_a_word(effort: object) -> None:
    """What some servers render into the prompt is no place for a text that is not counted."""
    assert refused(hello(reasoning_effort=effort)).param == "reasoning_effort"
    parse(hello(reasoning_effort="high"))
