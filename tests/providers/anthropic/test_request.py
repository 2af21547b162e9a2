"""An OpenAI request's fields as Anthropic is sent them."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.providers.anthropic import KIND, url
from tests.domain.bodies import hello, parse, raw
from tests.providers.anthropic.sent import not_sent, pieces, sent

BARE = sent(hello())
SCHEMA = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
FUNCTION = {"name": "f", "description": "Does it.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}
DEFINED = {"name": "f", "description": "Does it.", "input_schema": SCHEMA}


def added(allowed: frozenset[str] = frozenset(), /, **fields: Any) -> dict[str, Any]:
    """What the fields add to a request, or change of it."""
    return {k: v for k, v in sent(hello(**fields), allowed).items() if BARE.get(k) != v}


def test_the_least_request() -> None:
    """Model, cap, stream and messages are always sent, under their names there."""
    assert BARE == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "stream": False,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }
    assert added(stream=True, stream_options={"include_usage": True}) == {"stream": True}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_cap(name: str) -> None:
    """The cap goes up under the one name that there is."""
    assert added(**{name: 50}) == {"max_tokens": 50}


@pytest.mark.parametrize(("asked", "said"), [(0, 0), (0.7, 0.7), (1, 1), (1.3, 1), (2, 1)])
def test_temperature(asked: float, said: float) -> None:
    """OpenAI's scale goes up to 2: what is above 1 is as free as the model gets."""
    assert added(temperature=asked) == {"temperature": said}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("end", {"stop_sequences": ["end"]}),
        (["a", "b"], {"stop_sequences": ["a", "b"]}),
        ([], {}),
        (None, {}),
    ],
)
def test_stop(asked: Any, said: dict[str, Any]) -> None:
    """One sequence or several are a list there."""
    assert added(stop=asked) == said


@pytest.mark.parametrize("asked", [5, [5], {"a": 1}, "\n", ["a", " "]])
def test_a_stop_that_cannot_be(asked: Any) -> None:
    """A stop of white space alone, or that is none, is refused by the client's name for it."""
    assert not_sent(hello(stop=asked)) == "stop"


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_the_user(name: str) -> None:
    """Whom a request is made for is told where the vendor looks for it."""
    assert added(**{name: "u-1"}) == {"metadata": {"user_id": "u-1"}}
    assert not_sent(hello(**{name: 5})) == name


@pytest.mark.parametrize(
    ("effort", "said"),
    [
        ("minimal", {"output_config": {"effort": "low"}}),
        ("low", {"output_config": {"effort": "low"}}),
        ("high", {"output_config": {"effort": "high"}}),
        ("xhigh", {"output_config": {"effort": "xhigh"}}),
        ("none", {"thinking": {"type": "disabled"}}),
    ],
)
def test_effort(effort: str, said: dict[str, Any]) -> None:
    """How hard to think has the vendor's words; not to think at all is a switch there."""
    assert added(reasoning_effort=effort) == said


@pytest.mark.parametrize("first", [True, False])
def test_thinking(first: bool) -> None:
    """The vendor's own switch passes as it came, and stands against the other word for it."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    both: dict[str, Any] = {"reasoning_effort": "none", "thinking": thinking}
    fields = dict(reversed(both.items())) if first else both
    assert added(**fields) == {"thinking": thinking}


def test_a_schema() -> None:
    """An answer of a schema is asked for as the vendor has it, together with an effort."""
    schema = {"name": "x", "strict": True, "schema": SCHEMA}
    wanted = {"type": "json_schema", "json_schema": schema}
    assert added(response_format=wanted, reasoning_effort="low") == {
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    }
    assert added(response_format={"type": "text"}) == {}


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"type": "json_object"}, "response_format"),
        ("json", "response_format"),
        ({}, "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": 5}, "response_format.json_schema.schema"),
    ],
)
def test_formats_that_cannot_be_had(wanted: Any, field: str) -> None:
    """JSON of no schema is not to be had there."""
    assert not_sent(hello(response_format=wanted)) == field


def test_tools() -> None:
    """A definition's parameters are its input's schema; without any it is an empty one's."""
    strict = {**TOOL, "function": {**FUNCTION, "strict": True, "more": 1}}
    bare = {"type": "function", "function": {"name": "g", "description": None}}
    empty = {"type": "function", "function": {"name": "h", "parameters": {}}}
    none = {"type": "object", "properties": {}}
    assert added(tools=[strict, bare, empty])["tools"] == [
        {**DEFINED, "strict": True},
        {"name": "g", "input_schema": none},
        {"name": "h", "input_schema": none},
    ]
    assert added(tools=[]) == added(tools=None) == {}


def test_a_cached_tool() -> None:
    """Where a client has a cache end with a tool, it does."""
    mark = {"cache_control": {"type": "ephemeral"}}
    assert added(tools=[{**TOOL, **mark}])["tools"] == [{**DEFINED, **mark}]
    within = {"type": "function", "function": {**FUNCTION, **mark}}
    assert added(tools=[within])["tools"] == [{**DEFINED, **mark}]


def test_a_tool_of_the_vendors() -> None:
    """A tool that the plan lets the provider run goes up as it came."""
    search = {"type": "web_search_20260318", "name": "web_search", "max_uses": 3}
    assert added(frozenset({"tools"}), tools=[search, TOOL])["tools"] == [search, DEFINED]


def test_schemas_are_the_clients() -> None:
    """A schema keeps its own bytes."""
    schema = '{"type":"object","properties":{"x":{"maximum":1.10}}}'
    body = raw(f'"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]')
    assert schema.encode() in b"".join(pieces(parse(body)))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"type": "tool", "name": "f"},
        ),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": None, "tool_choice": None}, None),
    ],
)
def test_the_choice_of_tools(fields: dict[str, Any], said: Any) -> None:
    """Each choice has its word there; calls one at a time are part of it."""
    assert added(tools=[TOOL], **fields).get("tool_choice") == said


def test_a_choice_among_no_tools() -> None:
    """Without tools a free choice is none; a forced one goes up, and is refused there."""
    assert added(tool_choice="auto", parallel_tool_calls=False) == {}
    assert added(tools=[], tool_choice="none") == {}
    assert added(tool_choice="required") == {"tool_choice": {"type": "any"}}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "f"}}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}]},
            "tools[0].function.parameters",
        ),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"functions": [FUNCTION]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"system": "Be brief."}, "system"),
        ({"stop_sequences": ["x"]}, "stop_sequences"),
        ({"output_config": {"effort": "low"}}, "output_config"),
    ],
)
def test_what_cannot_be_had(fields: dict[str, Any], field: str) -> None:
    """What would change the answer and has no translation is refused by its name."""
    assert not_sent(hello(**fields)) == field


def test_tools_that_are_none() -> None:
    """Where a plan lets tools pass unseen, what are none are refused all the same."""
    assert not_sent(hello(tools={"a": 1}), frozenset({"tools"})) == "tools"
    assert not_sent(hello(tools=["a"]), frozenset({"tools"})) == "tools"


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "presence_penalty": 0.0},
        {"frequency_penalty": 0, "functions": [], "function_call": "none"},
        {"seed": 42, "metadata": {"a": "b"}, "store": False, "verbosity": "low", "detail": "low"},
        {"service_tier": "auto", "modalities": ["text"], "prompt_cache_key": "x"},
        {"response_format": None, "user": None, "temperature": None, "made_up": None},
    ],
)
def test_what_is_no_loss(fields: dict[str, Any]) -> None:
    """What changes nothing that the client could see is left out without a word."""
    assert added(**fields) == {}


def test_what_is_in_no_table() -> None:
    """The API's own fields, and those that nobody knows here, go up as they came."""
    fields = {"top_p": 0.9, "top_k": 40, "made_up": {"x": [None, "é"]}}
    assert added(**fields) == fields
    assert b'"top_p":1.10' in b"".join(pieces(parse(raw('"top_p": 1.10'))))
    mark = {"type": "ephemeral"}
    assert added(cache_control=mark) == {"cache_control": mark}


@pytest.mark.parametrize(
    "base",
    ["https://api.anthropic.com", "https://api.anthropic.com/v1"],
)
def test_the_url(base: str) -> None:
    """A base URL may say the version, or leave it out."""
    assert url(base, "claude") == "https://api.anthropic.com/v1/messages"
    assert url("https://other.example/anthropic", "x").endswith("/anthropic/v1/messages")


def test_headers() -> None:
    """The key has a header of its own; a local server may need none."""
    version = {"anthropic-version": "2023-06-01"}
    assert KIND.headers("sk-ant-1") == {"x-api-key": "sk-ant-1", **version}
    assert KIND.headers(None) == KIND.headers("") == version
