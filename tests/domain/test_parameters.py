"""The parameters: what each may be, and what is refused unless a plan allows it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.parameters import LARGEST_CAP, LARGEST_N, REFUSED, RESIZERS
from tests.domain.bodies import hello, parse, raw, refused

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


HARMFUL: dict[str, Any] = {
    "service_tier": "priority",
    "store": True,
    "prompt_cache_retention": "24h",
    "modalities": ["text", "audio"],
    "best_of": 2,
    "use_beam_search": True,
    "enable_search": True,
    "vl_high_resolution_images": True,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_reaches_too_far_is_refused(name: str) -> None:
    """Each parameter of the table is refused with its name and why, unless the plan allows it."""
    body = hello(**{name: HARMFUL.get(name, {"x": 1})})
    error = refused(body)
    assert error.param == name
    assert "allow_parameters" in error.message
    assert REFUSED[name][1] in error.message
    assert parse(body, frozenset((name,))).fields[name]
    assert refused(body, frozenset(REFUSED.keys() - {name})).param == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_tier", "auto"),
        ("service_tier", "default"),
        ("store", False),
        ("modalities", ["text"]),
        ("best_of", 1),
        ("use_beam_search", False),
        ("prompt_cache_retention", "in_memory"),
    ],
)
def test_harmless_values_pass(name: str, value: Any) -> None:
    """The value that means no more than leaving it out is taken."""
    assert parse(hello(**{name: value})).fields[name]


@pytest.mark.parametrize(
    ("name", "value"), [("store", 0), ("best_of", True), ("best_of", 1.0), ("service_tier", ["x"])]
)
def test_what_only_looks_harmless_is_refused(name: str, value: Any) -> None:
    """A value of another type, which an upstream may read otherwise, is not harmless."""
    assert refused(hello(**{name: value})).param == name


def test_the_first_of_the_table_is_named() -> None:
    """With several of them, the same one is named each time."""
    assert refused(hello(plugins=[], store=True, service_tier="flex")).param == "service_tier"


def test_tools_of_the_client_pass() -> None:
    """Functions and custom tools are run by the client, and pass."""
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {}}]
    assert parse(hello(tools=tools)).fields["tools"]
    assert parse(hello(tools=[])).fields["tools"]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "web_search"}], "tools[0].type"),
        ([{"type": "function"}, {"type": "mcp"}], "tools[1].type"),
        ([{}], "tools[0].type"),
        ([{"type": ["function"]}], "tools[0].type"),
        ([None], "tools[0]"),
        ([{"type": "function", "Type": "web_search"}], "tools[0].Type"),
    ],
)
def test_tools_of_the_provider_are_refused(tools: Any, param: str) -> None:
    """A tool that the provider runs is refused by its place, unless the plan allows tools."""
    assert refused(hello(tools=tools)).param == param
    assert parse(hello(tools=tools), frozenset(("tools",))).fields["tools"]


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


@pytest.mark.parametrize(
    "name", ["Model", "MAX_TOKENS", "max_to\u212aens", "me\u017fsages", "Service_Tier", "N"]
)
def test_a_checked_name_in_another_case_is_refused(name: str) -> None:
    """Servers that ignore case must not obey a field that was not checked."""
    error = refused(hello(**{name: 1}))
    assert error.param == name
    assert f"'{name.casefold()}'" in error.message


def test_other_unknown_names_pass() -> None:
    """A field that nobody knows is kept as it came, whatever its case."""
    field = '"Made_Up": [ 1.10, 12345678901234567890123, "\\u00e9" ]'
    assert bytes(parse(raw(field)).fields["Made_Up"]) == field.partition(": ")[2].encode()


@pytest.mark.parametrize("key", RESIZERS)
@pytest.mark.parametrize("inner", [True, False])
def test_a_key_that_resizes_an_image_is_refused(key: str, inner: bool) -> None:
    """What makes an image cost other than its size tells is refused, in the part and within."""
    image = {"url": "https://example.com/a.png", **({key: 9} if inner else {})}
    part = {"type": "image_url", "image_url": image, **({} if inner else {key: 9})}
    body = hello(messages=[{"role": "user", "content": [part]}])
    where = "messages[0].content[0]" + (".image_url" if inner else "")
    assert refused(body).param == f"{where}.{key}"


@pytest.mark.parametrize("key", ["images", "image_url", "multi_modal_data"])
def test_media_beside_the_messages_is_refused(key: str) -> None:
    """An image where nobody looks for one does not pass."""
    assert refused(hello(**{key: ["https://10.0.0.1/"]})).param == key


@pytest.mark.parametrize("effort", ["x" * 33, 5, ["high"]])
def test_an_effort_is_a_word(effort: object) -> None:
    """What some servers render into the prompt is no place for a text that is not counted."""
    assert refused(hello(reasoning_effort=effort)).param == "reasoning_effort"
    parse(hello(reasoning_effort="high"))
