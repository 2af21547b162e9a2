"""Conversations as Anthropic is sent them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.domain.steps import STEP
from proxy.providers.anthropic import KIND
from tests.domain.bodies import IMAGE, TEXT, VISION, asks, hello, parse
from tests.images.samples import data_uri, large_png
from tests.providers.anthropic.sent import not_sent, pieces, sent
from tests.scripted.anthropic import Asked

EPHEMERAL = {"type": "ephemeral"}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}
LONG = data_uri(large_png(4 * STEP))
HEAD, _, DATA = LONG.partition(",")


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def call(id: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = sent(hello(messages=list(messages)))["messages"]
    return made


def test_the_system_is_no_message() -> None:
    """What the system and the developer say stands before all turns, in their order."""
    said = sent(
        hello(
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "developer", "content": [text("Be kind."), text("Be quick.")]},
            ]
        )
    )
    assert said["system"] == [text("Be brief."), text("Be kind."), text("Be quick.")]
    assert said["messages"] == [{"role": "user", "content": [text("Hello")]}]


def test_no_system_no_field() -> None:
    """Without a word of the system's, or with an empty one, there is no such field."""
    assert "system" not in sent(hello())
    user = {"role": "user", "content": "Hello"}
    assert "system" not in sent(hello(messages=[{"role": "system", "content": ""}, user]))


def test_messages_of_one_role_are_one_turn() -> None:
    """Turns alternate, whatever the client's messages do."""
    assert turns(
        {"role": "user", "content": "A", "name": "ann"},
        {"role": "user", "content": [text("B"), IMAGE]},
        {"role": "assistant", "content": "C"},
        {"role": "assistant", "content": "D"},
        {"role": "user", "content": "E"},
    ) == [
        {"role": "user", "content": [text("A"), text("B"), LINK]},
        {"role": "assistant", "content": [text("C"), text("D")]},
        {"role": "user", "content": [text("E")]},
    ]


def test_what_is_empty_is_left_out() -> None:
    """Empty texts, and messages of nothing else, would be refused and say nothing."""
    assert turns(
        {"role": "user", "content": ""},
        {"role": "user", "content": [text(""), text("A")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "B"},
    ) == [{"role": "user", "content": [text("A"), text("B")]}]


@pytest.mark.parametrize("content", ["", [{"type": "text", "text": ""}]])
def test_nothing_but_empty_messages(content: Any) -> None:
    """A conversation of nothing is refused as the client's own."""
    assert not_sent(hello(messages=[{"role": "user", "content": content}])) == "messages"
    assert not_sent(hello(messages=[{"role": "system", "content": "Be brief."}])) == "messages"


def test_a_plain_request() -> None:
    """A short request, which is read in another way, says the same."""
    said = sent(VISION)
    assert said["system"] == [text("Be brief.")]
    assert said["messages"] == [{"role": "user", "content": [LINK, text(TEXT["text"])]}]


def test_an_image_as_data() -> None:
    """Data go up as base64 with their media type, and without the URI's head."""
    (turn,) = turns({"role": "user", "content": [TEXT, image("data:image/PNG;x=1;base64,QUJD")]})
    source = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
    assert turn["content"] == [TEXT, {"type": "image", "source": source}]


def test_the_format_is_what_was_found() -> None:
    """An image that was looked at has the type that it is of, not that which it was said to be."""
    request = parse(asks(image("data:image/png;base64,QUJD")))
    (found,) = request.images
    request = replace(request, images=(replace(found, format="jpeg"),), cap=5)
    said = json.loads(b"".join(pieces(request)))
    assert said["messages"][0]["content"][0]["source"]["media_type"] == "image/jpeg"


def test_an_image_that_was_inlined() -> None:
    """An image that the gateway fetched takes the place of its link."""
    request = parse(asks(IMAGE, TEXT, IMAGE))
    first, second = request.images
    inlined = replace(first, url="data:image/webp;base64,", data=b"QUJD", format="webp")
    said = json.loads(b"".join(pieces(replace(request, images=(inlined, second), cap=5))))
    source = {"type": "base64", "media_type": "image/webp", "data": "QUJD"}
    assert said["messages"][0]["content"] == [{"type": "image", "source": source}, TEXT, LINK]


def test_large_images_are_not_copied() -> None:
    """What goes up of a long data: URI is a view of where it lies in the body."""
    came = json.dumps(asks(TEXT, image(LONG), image(LONG), IMAGE), ensure_ascii=False).encode()
    made = pieces(parse(came))
    views = [piece for piece in made if isinstance(piece, memoryview)]
    assert [view.obj is came for view in views] == [True, True]
    assert len(b"".join(piece for piece in made if isinstance(piece, bytes))) < 1000
    content = json.loads(b"".join(made))["messages"][0]["content"]
    assert [part.get("source", {}).get("data") for part in content] == [None, DATA, DATA, None]


def test_odd_characters_are_no_hole() -> None:
    """A text with the characters that stand for data elsewhere stays what it is."""
    odd = '\x00\x7f\\u0000 "quoted" \\'
    (turn,) = turns({"role": "user", "content": [text(odd), image("data:image/png;base64,QUJD")]})
    assert turn["content"][0] == text(odd)


# Of some characters no body may have as many: each could be a value.
@given(
    st.text(st.characters(codec="utf-8", exclude_characters='[{,"'), max_size=40), st.integers(1, 3)
)
def test_long_texts(words: str, times: int) -> None:
    """A text is the client's, however long it is."""
    long = words * (times * STEP // max(len(words), 1)) + "end"
    assert turns({"role": "user", "content": long})[0]["content"] == [text(long)]


def test_what_is_long_stays_in_its_place() -> None:
    """Long texts, data and arguments come out where they came in, the system's before all."""
    long = "é" * (STEP + 1)
    arguments = json.dumps({"x": long})
    said = sent(
        hello(
            messages=[
                {"role": "user", "content": [text(f"1{long}"), image(LONG), text(f"2{long}")]},
                {"role": "assistant", "tool_calls": [call("a", arguments)]},
                {"role": "system", "content": f"3{long}"},
                {"role": "tool", "tool_call_id": "a", "content": [image(LONG), text(f"4{long}")]},
            ]
        )
    )
    assert said["system"] == [text(f"3{long}")]
    first, second, third = [turn["content"] for turn in said["messages"]]
    assert [part.get("text", "")[:1] for part in first] == ["1", "", "2"]
    assert first[1]["source"]["data"] == third[0]["content"][0]["source"]["data"] == DATA
    assert second[0]["input"] == {"x": long}
    assert third[0]["content"][1] == text(f"4{long}")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x" * 20 * STEP}],
        [{"role": "user", "content": "x" * 1000}] * 1000,
        [{"role": "user", "content": [text("x" * 100)] * 5000}],
        [{"role": "assistant", "tool_calls": [call("a", '{"x": "%s"}' % ("y" * 500))] * 2000}],
    ],
)
def test_long_conversations_are_written_in_steps(messages: Any) -> None:
    """The longer a conversation, the more steps it is written in."""
    steps = KIND.messages(parse(hello(messages=messages)))
    assert steps is not None
    assert sum(1 for _ in steps) >= 15


def test_many_tools_are_written_in_steps() -> None:
    """Definitions of hundreds of kilobytes are not translated in one step."""
    function = {"name": "f", "description": "x" * 1000, "parameters": {"type": "object"}}
    steps = KIND.messages(parse(hello(tools=[{"type": "function", "function": function}] * 1000)))
    assert steps is not None
    assert sum(1 for _ in steps) >= 15


def test_a_round_of_tools() -> None:
    """Calls become blocks of the assistant's turn, all their results the beginning of the next."""
    assert turns(
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call("a", '{"x": 1.50}'), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [text("2"), IMAGE]},
        {"role": "user", "content": "And?"},
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.5}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [text("1")]},
                {"type": "tool_result", "tool_use_id": "b", "content": [text("2"), LINK]},
                text("And?"),
            ],
        },
    ]


def test_arguments_are_the_clients() -> None:
    """Arguments keep their own bytes: numbers and spaces are as they came; none are an object."""
    body = hello(
        messages=[{"role": "assistant", "tool_calls": [call("a", '{"x": 1.10, "y":10e5}')]}]
    )
    assert b'"input":{"x": 1.10, "y":10e5}' in b"".join(pieces(parse(body)))
    (turn,) = turns({"role": "assistant", "tool_calls": [call("a", ""), call("b", " ")]})
    assert [block["input"] for block in turn["content"]] == [{}, {}]


def test_empty_results() -> None:
    """A result of nothing is one all the same."""
    (turn,) = turns({"role": "tool", "tool_call_id": "a", "content": ""})
    assert turn["content"] == [{"type": "tool_result", "tool_use_id": "a"}]


def test_ids_of_other_providers() -> None:
    """A call's id is in the characters that the API takes, and the same with its result."""
    calls, results = turns(
        {"role": "assistant", "tool_calls": [call("functions.f:0")]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"},
    )
    assert calls["content"][0]["id"] == results["content"][0]["tool_use_id"] == "functions_f_0"


def test_refusals_and_thoughts() -> None:
    """What an assistant refused is its text; other models' thoughts are left out."""
    thought = {"type": "thinking", "thinking": "Hm."}
    assert turns(
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": [thought, {"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "refusal": "Never."},
    )[1]["content"] == [text("No."), text("Never.")]


def test_marks_of_the_cache_pass() -> None:
    """Where a client has a cache begin, the block says so; a message's mark is its last block's."""
    said = sent(
        hello(
            messages=[
                {"role": "system", "content": [text("S", cache_control=EPHEMERAL)]},
                {"role": "user", "content": [{**IMAGE, "cache_control": EPHEMERAL}, TEXT]},
                {"role": "assistant", "tool_calls": [call("a", cache_control=EPHEMERAL)]},
                {"role": "tool", "tool_call_id": "a", "content": "1", "cache_control": EPHEMERAL},
            ]
        )
    )
    blocks = [*said["system"], *(block for turn in said["messages"] for block in turn["content"])]
    assert [block.get("cache_control") for block in blocks] == [EPHEMERAL, EPHEMERAL, None] + [
        EPHEMERAL
    ] * 2


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "system", "content": [IMAGE]}, "content[0].type"),
        ({"role": "assistant", "content": [TEXT, IMAGE]}, "content[1].type"),
        ({"role": "function", "name": "f", "content": "1"}, "role"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "function_call"),
        ({"role": "assistant", "tool_calls": {}}, "tool_calls"),
        ({"role": "assistant", "tool_calls": ["f"]}, "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}, "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [call("")]}, "tool_calls[0].id"),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]},
            "tool_calls[0].function.name",
        ),
        ({"role": "tool", "content": "1"}, "tool_call_id"),
        ({"role": "tool", "content": "1", "tool_call_id": 5}, "tool_call_id"),
        ({"role": "assistant", "refusal": 5}, "refusal"),
    ],
)
def test_what_cannot_be_said(message: dict[str, Any], field: str) -> None:
    """A message that has no translation is refused, by the name that the client gave the field."""
    user = {"role": "user", "content": "Hello"}
    assert not_sent(hello(messages=[user, message])) == f"messages[1].{field}"


@pytest.mark.parametrize(
    "arguments", ["{", '{"x": "\0"}', "[1]", "null", "x", '{"a":}', None, {}, 5, "[" * 9999]
)
def test_arguments_that_are_no_object(arguments: Any) -> None:
    """Arguments that are no JSON object are refused before anybody is asked."""
    message = {"role": "assistant", "tool_calls": [call("b"), call("a", arguments)]}
    field = "messages[0].tool_calls[1].function.arguments"
    assert not_sent(hello(messages=[message])) == field


TEXTS = st.one_of(st.text(max_size=8), st.just("x" * (STEP + 1)), st.sampled_from(["", "\0\x7f"]))
PARTS = st.one_of(
    TEXTS.map(text),
    st.just(image("https://example.com/cat.png")),
    st.sampled_from(["data:image/png;base64,QUJD", LONG]).map(image),
)
CONTENTS = TEXTS | st.lists(PARTS, min_size=1, max_size=4)
CALLS = st.builds(
    call, st.text(min_size=1, max_size=6), st.sampled_from(["", "{}", '{"x": [1.0, null]}'])
)
MESSAGES = st.one_of(
    st.builds(lambda c: {"role": "user", "content": c}, CONTENTS),
    st.builds(lambda t: {"role": "system", "content": t}, TEXTS),
    st.builds(lambda t: {"role": "developer", "content": [text(t)]}, TEXTS),
    st.builds(lambda t: {"role": "assistant", "content": t}, TEXTS),
    st.builds(
        lambda t, calls: {"role": "assistant", "content": t or None, "tool_calls": calls},
        *(TEXTS, st.lists(CALLS, max_size=3)),
    ),
    st.builds(
        lambda c, id: {"role": "tool", "tool_call_id": id, "content": c},
        *(CONTENTS, st.text(min_size=1, max_size=6)),
    ),
)


def says(message: dict[str, Any]) -> bool:
    """Whether something is left of a message but for the system's."""
    if message["role"] in ("system", "developer"):
        return False
    said = any(part != text("") for part in message["content"] or ())
    return bool(said or message.get("tool_calls") or message["role"] == "tool")


@given(st.lists(MESSAGES, min_size=1, max_size=6))
def test_whatever_is_said(messages: list[dict[str, Any]]) -> None:
    """What goes up of any conversation has the API's form: turns that alternate, nothing empty, ids
    in its letters, every image in its place; else it is refused by its name.
    """
    body = hello(messages=messages)
    if not any(map(says, messages)):
        assert not_sent(body) == "messages"
        return
    made = b"".join(pieces(replace(parse(body), cap=5)))
    asked = msgspec.json.decode(made, type=Asked)
    roles = [turn.role for turn in asked.messages]
    assert all(a != b for a, b in pairwise(roles))
    came = [part for m in messages if isinstance(m["content"], list) for part in m["content"]]
    links = [part["image_url"]["url"] for part in came if part["type"] == "image_url"]
    assert made.count(DATA.encode()) == links.count(LONG)


def test_parts_that_a_plan_allows() -> None:
    """A part that is allowed, and known to OpenAI alone, is refused by its place."""
    part = {"type": "file", "file": {"file_id": "a"}}
    allowed = frozenset({"file", "file_id"})
    assert not_sent(asks(TEXT, part), allowed) == "messages[0].content[1].type"
