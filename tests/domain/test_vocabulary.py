"""What changes price, retention or reach: refused under each of its names, unless allowed."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.domain.vocabulary import FAMILIAR, REFUSED, proper
from tests.domain.bodies import IMAGE, TEXT, USER, asks, hello, parse, raw, refused

HARMFUL: dict[str, Any] = {
    "service_tier": "priority",
    "store": True,
    "prompt_cache_retention": "24h",
    "modalities": ["text", "audio"],
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
    "best_of": 2,
    "use_beam_search": True,
    "enable_search": True,
    "vl_high_resolution_images": True,
}

#: The hostile spellings and parameters of which each once reached an upstream.
PASSED_ONCE: dict[str, Any] = {
    "speed": "fast",
    "inference_geo": "us",
    "enable_code_interpreter": True,
    "enhancements": {"ocr": {"enabled": True}},
    "priority": -1000,
    "max_dynamic_patch": 48,
    "media_io_kwargs": {"image": {}},
    "prompt_cache_options": {"ttl": "24h"},
    "thinking_config": {"thinking_budget": 30000},
    "google": {"thinking_config": {}},
    "maxTokens": 100_000,
    "maxCompletionTokens": 100_000,
    "max_output_tokens": 100_000,
    "maxOutputTokens": 100_000,
    "num_predict": 100_000,
    "options": {"num_predict": 100_000},
    "generationConfig": {"candidateCount": 8},
    "generation_config": {"candidate_count": 8},
    "candidate_count": 8,
    "num_return_sequences": 8,
    "max_new_tokens": 8,
    "use_beam_search": 1,
    "user_config": {"model_list": []},
    "custom_llm_provider": "x",
    "vertex_credentials": "/etc/passwd",
    "success_callback": ["http://x"],
    "headers": {"x": "y"},
    "dataSources": [{"parameters": {"endpoint": "http://169.254.169.254"}}],
    "background": True,
    "previous_response_id": "r",
    "conversation": "c",
    "prompt": {"id": "pmpt_1"},
    "serviceTier": "priority",
    "service-tier": "priority",
    "webSearchOptions": {},
    "mmProcessorKwargs": {},
    "store ": True,
    "store\x00": True,
    "\u017ftore": True,
    "s_tore": True,
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


@pytest.mark.parametrize("name", PASSED_ONCE)
def test_another_name_for_it_is_refused(name: str) -> None:
    """Whatever a server calls it, it is refused by the name that came, and the plan may allow
    that name.
    """
    body = hello(**{name: PASSED_ONCE[name]})
    assert refused(body).param == name
    assert name in parse(body, frozenset((name,))).fields


@pytest.mark.parametrize("ttl", [{}, {"ttl": "5m"}, {"ttl": "1h"}])
@pytest.mark.parametrize("where", ["top", "message", "call", "part", "image", "tool", "function"])
def test_only_the_short_cache_passes(where: str, ttl: dict[str, str]) -> None:
    """The cache of five minutes may be asked for wherever it can stand, a longer one nowhere."""
    asked = {"cache_control": {"type": "ephemeral", **ttl}}
    tool = {"type": "function", "function": {"name": "f"}}
    body, path = {
        "top": (hello(**asked), ""),
        "message": (hello(messages=[{**USER, **asked}]), "messages[0]."),
        "call": (
            hello(messages=[{"role": "assistant", "tool_calls": [{"id": "c", **asked}]}]),
            "messages[0].tool_calls[0].",
        ),
        "part": (asks({**TEXT, **asked}), "messages[0].content[0]."),
        "image": (asks({**IMAGE, **asked}), "messages[0].content[0]."),
        "tool": (hello(tools=[{**tool, **asked}]), "tools[0]."),
        "function": (
            hello(tools=[{**tool, "function": {"name": "f", **asked}}]),
            "tools[0].function.",
        ),
    }[where]
    if ttl == {"ttl": "1h"}:
        assert refused(body).param == f"{path}cache_control"
        assert parse(body, frozenset(("cache_control",)))
    else:
        assert parse(body)


@pytest.mark.parametrize("part", [TEXT, IMAGE], ids=["text", "image"])
def test_a_cache_may_begin_at_a_part(part: dict[str, Any]) -> None:
    """OpenAI's mark for where a cache begins passes, and no other value of it."""
    assert parse(asks({**part, "prompt_cache_breakpoint": {"mode": "explicit"}}))
    where = "messages[0].content[0].prompt_cache_breakpoint"
    for more in ({"ttl": "24h"}, {"mode": "forever"}):
        marked = {**part, "prompt_cache_breakpoint": {"mode": "explicit", **more}}
        assert refused(asks(marked)).param == where


@pytest.mark.parametrize(
    ("fields", "on"),
    [
        ({}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 15000}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "disabled", "budget_tokens": 9}}, False),
        ({"thinking": None}, False),
        ({"reasoning": {"effort": "high"}}, True),
        ({"reasoning": {"max_tokens": 9, "exclude": True}}, True),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"enabled": False, "max_tokens": 9}}, False),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"enable_thinking": True}, True),
        ({"enable_thinking": False}, False),
        ({"include_reasoning": True}, True),
        ({"include_reasoning": False}, True),
        ({"include_reasoning": None}, False),
        ({"reasoning_format": "hidden"}, True),
        ({"stream_reasoning": False}, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"chat_template_kwargs": {"thinking": False, "x": True}}, False),
        ({"chat_template_kwargs": {"greeting": "x"}}, False),
        ({"chat_template_kwargs": "x"}, False),
    ],
)
def test_a_request_may_have_its_model_think(fields: dict[str, Any], on: bool) -> None:
    """A switch for thinking is known under each of its names, on and off; and what hides thoughts
    is taken to have some to hide.
    """
    assert parse(hello(**fields)).thinks is on


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
        ("prompt_cache_options", {"mode": "explicit"}),
        ("prompt_cache_options", {"mode": "implicit", "ttl": "30m"}),
        ("service_tier", "on_demand"),
        ("transforms", []),
        ("images", []),
    ],
)
def test_harmless_values_pass(name: str, value: Any) -> None:
    """The value that means no more than leaving it out is taken."""
    assert parse(hello(**{name: value})).fields[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("store", 0), ("best_of", True), ("best_of", 1.0), ("service_tier", ["x"])),
        *(("store", []), ("transforms", {}), ("images", {})),
        ("prompt_cache_options", {"mode": "explicit", "ttl": "24h"}),
    ],
)
def test_what_only_looks_harmless_is_refused(name: str, value: Any) -> None:
    """A value of another type, which an upstream may read otherwise, is not harmless."""
    assert refused(hello(**{name: value})).param == name


def test_the_first_of_the_table_is_named() -> None:
    """With several of them, the same one is named each time."""
    assert refused(hello(plugins=[], store=True, service_tier="flex")).param == "service_tier"


def test_tools_of_the_client_pass() -> None:
    """Functions and custom tools are run by the client, and pass with whatever defines them."""
    function = {"name": "f", "strict": True, "return": {"type": "string"}}
    tools = [{"type": "function", "function": function}, {"type": "custom", "custom": {}}]
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
        ([{"type": "FUNCTION"}], "tools[0].type"),
        ([{"type": "function", "googleSearch": {}}], "tools[0].googleSearch"),
        ([{"type": "function", "custom": {}}], "tools[0].custom"),
        ([{"type": "function", "function": {"Type": "mcp"}}], "tools[0].function.Type"),
        ([{"type": "custom", "server_url": "http://10.0.0.1"}], "tools[0].server_url"),
    ],
)
def test_tools_of_the_provider_are_refused(tools: Any, param: str) -> None:
    """A tool that the provider runs is refused by its place, unless the plan allows tools."""
    assert refused(hello(tools=tools)).param == param
    assert parse(hello(tools=tools), frozenset(("tools",))).fields["tools"]


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


@pytest.mark.parametrize("key", ["max_pixels", "media_resolution", "uuid", "format", "source"])
@pytest.mark.parametrize("inner", [True, False])
def test_an_image_has_no_other_keys(key: str, inner: bool) -> None:
    """What may make an image another, or cost other than its size tells, is refused by its
    path, in the part and within, unless the plan allows it.
    """
    image = {"url": "https://example.com/a.png", **({key: 9} if inner else {})}
    part = {"type": "image_url", "image_url": image, **({} if inner else {key: 9})}
    body = hello(messages=[{"role": "user", "content": [part]}])
    where = "messages[0].content[0]" + (".image_url" if inner else "")
    assert refused(body).param == f"{where}.{key}"
    assert parse(body, frozenset((key,))).images


@pytest.mark.parametrize("key", ["file_ids", "attachments", "source", "inline_data", "inlineData"])
def test_a_message_carries_nothing_beside_its_content(key: str) -> None:
    """A file or an image beside a message's content does not pass."""
    body = hello(messages=[{**USER, key: [{"url": "http://10.0.0.1/"}]}])
    assert refused(body).param == f"messages[0].{key}"


@pytest.mark.parametrize("key", ["images", "image_url", "multi_modal_data"])
def test_media_beside_the_messages_is_refused(key: str) -> None:
    """An image where nobody looks for one does not pass."""
    assert refused(hello(**{key: ["https://10.0.0.1/"]})).param == key


def test_familiar_names_are_no_other_spelling() -> None:
    """No name that is passed at first sight is a checked one in disguise."""
    assert not [name for name in FAMILIAR if proper(name)]
