"""Caps, the count of a prompt, and the worst case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.domain.chat import ImagePart
from proxy.domain.errors import BadRequest
from proxy.domain.estimate import OutputCap, cap_output, estimate, text_tokens
from proxy.domain.tokenizer import Tokenizer, tokenizer_for
from proxy.domain.usage import Amounts, Price
from tests.domain.bodies import IMAGE, TEXT, asks, hello, parse

O200K = tokenizer_for("gpt-4o")
BYTES = tokenizer_for("another")
NOTHING = Tokenizer(lambda texts: 0, lambda texts: 0, exact=True)
MODEL_MAX = 16384


@pytest.mark.parametrize(
    ("asked", "rules", "cap"),
    [
        (None, [OutputCap()], MODEL_MAX),
        (None, [], MODEL_MAX),
        (100, [OutputCap()], 100),
        (99_999, [OutputCap()], MODEL_MAX),
        (None, [OutputCap(default=500)], 500),
        (None, [OutputCap(default=99_999)], MODEL_MAX),
        (100, [OutputCap(default=500)], 100),
        (1000, [OutputCap(default=500)], 1000),
        (None, [OutputCap(cap=200)], 200),
        (None, [OutputCap(default=500, cap=200)], 200),
        (None, [OutputCap(default=100, cap=200)], 100),
        (1000, [OutputCap(cap=200)], 200),
        (200, [OutputCap(cap=200, over="reject")], 200),
        (None, [OutputCap(cap=200, over="reject")], 200),
        (None, [OutputCap(default=500, cap=200, over="reject")], 200),
        (20_000, [OutputCap(cap=20_000, over="reject")], MODEL_MAX),
        (1000, [OutputCap(cap=500), OutputCap(cap=200)], 200),
        (1000, [OutputCap(cap=200), OutputCap(cap=500)], 200),
        (None, [OutputCap(default=300), OutputCap(default=100)], 100),
        (None, [OutputCap(default=300), OutputCap(cap=100, over="reject")], 100),
        (150, [OutputCap(cap=100), OutputCap(cap=200, over="reject")], 100),
    ],
)
def test_the_cap(asked: int | None, rules: list[OutputCap], cap: int) -> None:
    """What is asked for, or the plan's default, held under every plan's cap and the model's."""
    request = parse(hello(max_tokens=asked))
    assert cap_output(request, tuple(rules), MODEL_MAX).cap == cap
    assert request.cap == asked


@pytest.mark.parametrize(
    "rules",
    [
        [OutputCap(cap=200, over="reject")],
        [OutputCap(cap=100), OutputCap(cap=200, over="reject")],
        [OutputCap(cap=200, over="reject"), OutputCap(cap=100)],
    ],
)
def test_a_plan_may_reject(rules: list[OutputCap]) -> None:
    """More than a rejecting plan allows is refused, whatever another plan clamps, in any order."""
    with pytest.raises(BadRequest, match="at most 200") as caught:
        cap_output(parse(hello(max_tokens=201)), tuple(rules), MODEL_MAX)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 300}, "max_tokens"),
        ({"max_completion_tokens": 300}, "max_completion_tokens"),
        ({"max_tokens": None, "max_completion_tokens": 300}, "max_completion_tokens"),
        ({"max_tokens": 300, "max_completion_tokens": 400}, "max_tokens"),
    ],
)
def test_the_field_that_asked_is_named(fields: dict[str, Any], param: str) -> None:
    """A refused cap is told by the name under which the client sent it."""
    with pytest.raises(BadRequest) as caught:
        cap_output(parse(hello(**fields)), (OutputCap(cap=200, over="reject"),), MODEL_MAX)
    assert caught.value.param == param


def cookbook(messages: list[dict[str, Any]]) -> int:
    """OpenAI's published count: 3 a message, every value, 1 a name, 3 for the reply."""
    texts = [value for message in messages for value in message.values()]
    return 3 * len(messages) + O200K.bound(texts) + sum("name" in m for m in messages) + 3


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(("system", "developer", "user", "assistant")),
            "content": st.text(max_size=30),
        },
        optional={"name": st.text(max_size=8)},
    ),
    min_size=1,
    max_size=5,
)


@given(MESSAGES)
def test_never_below_openais_own_count(messages: list[dict[str, Any]]) -> None:
    """The prompt's count is at least OpenAI's published one, and close to it."""
    count = text_tokens(parse(hello(messages=messages)), O200K)
    assert cookbook(messages) <= count <= cookbook(messages) + len(messages)


def counted(**fields: Any) -> int:
    return text_tokens(parse(hello(**fields)), BYTES)


BASE = counted()
LONG = "x" * 1000
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": LONG}}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "description": LONG}}]},
        {"functions": [{"name": "f", "description": LONG}]},
        {"response_format": {"type": "json_schema", "json_schema": {"description": LONG}}},
        {"tool_choice": {"type": "function", "function": {"name": LONG}}},
        {"documents": [{"text": LONG}]},
        {"made_up": LONG},
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": LONG}]}]},
        {"messages": [{"role": "user", "content": "Hello", "more": {"x": [LONG]}}]},
        {"messages": [{"role": "user", "content": "Hello", "more": LONG}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": LONG}}]},
        {"messages": [{"role": "assistant", "content": "", "reasoning_content": LONG}]},
        {"messages": [{"role": "assistant", "content": "", "reasoning_details": [{"t": LONG}]}]},
        {"messages": [{"role": "assistant", "refusal": LONG}]},
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": LONG}]}]},
        {"messages": [{"role": "user", "content": "Hello", "name": LONG}]},
        {"messages": [{"role": "tool", "content": "Hello", "tool_call_id": LONG}]},
    ],
)
def test_whatever_a_model_reads_is_counted(fields: dict[str, Any]) -> None:
    """Definitions, calls, names and fields that nobody knows are part of the prompt."""
    assert counted(**fields) >= len(LONG) + 7


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": LONG}},
        {"user": LONG, "stop": [LONG], "logit_bias": {"1": 2}},
        {"stream": True, "stream_options": {"x": LONG}},
        {"max_tokens": 5, "temperature": 1.5, "n": 2, "detail": "low"},
    ],
)
def test_what_no_model_reads_is_not(fields: dict[str, Any]) -> None:
    """Switches and labels are no part of the prompt."""
    assert counted(**fields) == BASE


def test_images_are_not_text() -> None:
    """An image's URL is no text, however long."""
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    assert text_tokens(parse(asks(data, TEXT)), BYTES) < 200


def test_every_definition_is_framed() -> None:
    """Many small tools and calls are not counted as less than their rendering."""
    tool = {"type": "function", "function": {"name": "f"}}
    call = {"id": "", "type": "function", "function": {"name": "f", "arguments": ""}}
    message = {"role": "assistant", "content": "", "tool_calls": [call] * 50}
    for request in (hello(tools=[tool] * 50), hello(messages=[message])):
        assert text_tokens(parse(request), NOTHING) >= 50 * 2 * 16


PRICE = Price.from_usd(2, 8, 1, 2.5)


def costs(part: ImagePart) -> int:
    return part.width * part.height if part.sized else 1000


def test_the_worst_case() -> None:
    """Text, every image, and the cap for each choice, at the dearest input price."""
    sized = ImagePart(0, 0, "a", None, width=10, height=20)
    unsized = ImagePart(0, 1, "b", "low")
    request = cap_output(parse(asks(IMAGE, IMAGE, max_tokens=50, n=3)), (), MODEL_MAX)
    request = replace(request, images=(sized, unsized))
    placed = estimate(request, 100, costs, PRICE)
    nano = 1300 * 2500 + 150 * 8000
    assert placed.amounts == Amounts(requests=1, input=1300, output=150, images=2, usd=nano)
    assert (placed.text, placed.image, placed.price) == (100, 1200, PRICE)


def test_a_request_without_images() -> None:
    """Without images there is only text to reserve."""
    placed = estimate(cap_output(parse(hello()), (), 10), 7, costs, PRICE)
    assert placed.amounts == Amounts(1, 7, 10, 0, 7 * 2500 + 10 * 8000)
    assert placed.image == 0
