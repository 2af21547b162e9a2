"""Whatever stands anywhere in a request, it is served or refused, and never altered."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.domain import messages, parameters
from proxy.domain.errors import GatewayError
from proxy.domain.estimate import cap_output, text_tokens
from proxy.domain.routing import Target
from proxy.domain.tokenizer import tokenizer_for
from proxy.domain.usage import FREE
from proxy.domain.vocabulary import CARRIERS, REFUSED, THINKING
from tests.domain.bodies import VISION, going_up, parse, raw

TARGET = Target("openai", "gpt-4o-2024-11-20", 1, 1, FREE)
FULL: dict[str, Any] = {
    **VISION,
    "stream_options": {"include_usage": True},
    "temperature": 1,
    "n": 2,
    "detail": "low",
    "max_completion_tokens": 50,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "service_tier": "auto",
    "made_up": {"x": [1, "y"]},
}

NAMES = st.sampled_from(
    ("model", "messages", "role", "content", "type", "text", "image_url", "url", "detail", "n")
) | st.text(max_size=4)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((10**30, -(10**30), 0, 1, 2**53, "user", "text", "image_url", "low", ""))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within a value, itself first."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def served(body: dict[str, Any]) -> dict[str, Any] | GatewayError:
    """What the provider would get, or the refusal."""
    try:
        capped = cap_output(parse(body), (), 4096)
        assert text_tokens(capped, tokenizer_for("another")) > 0
        sent = going_up(capped, TARGET)
    except GatewayError as error:
        return error
    decoded: dict[str, Any] = json.loads(sent)
    return decoded


PLACES = list(places(FULL))


@settings(max_examples=3 * settings().max_examples)
@given(st.sampled_from(PLACES[1:]), VALUES, st.booleans())
def test_any_value_anywhere_is_served_or_refused(
    place: tuple[Any, ...], value: Any, added: bool
) -> None:
    """A random value at a random place is either taken, all the way, or a 4xx."""
    body = copy.deepcopy(FULL)
    at: Any = body
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    if added:
        body["another"] = value
    answer = served(body)
    if isinstance(answer, GatewayError):
        assert 400 <= answer.status < 500
        assert len(json.dumps(answer.envelope())) < 2000
    else:
        assert answer["messages"]


def told(answer: dict[str, Any] | GatewayError) -> Any:
    return answer.envelope() if isinstance(answer, GatewayError) else answer


@settings(max_examples=3 * settings().max_examples)
@given(
    st.sampled_from(PLACES),
    st.sampled_from([*CARRIERS, *REFUSED, *THINKING, "toolCalls", "name"]) | NAMES,
    VALUES,
)
def test_a_glance_sees_what_the_rules_say(place: tuple[Any, ...], name: str, value: Any) -> None:
    """What passes because it is plain at first sight passes every rule, too."""
    body = copy.deepcopy(FULL)
    at: Any = body
    for key in place:
        at = at[key] if isinstance(at[key], dict | list) else at
    at[name if isinstance(at, dict) else 0] = value
    answer = told(served(body))
    with pytest.MonkeyPatch.context() as patch:
        for table in ("_MESSAGE", "_TEXT", "_IMAGE"):
            patch.setattr(messages, table, frozenset())
        patch.setattr(parameters, "FAMILIAR", frozenset())
        assert told(served(body)) == answer


UNTOUCHED = st.text(st.sampled_from("abcxyz_é"), min_size=1, max_size=6).map(lambda t: f"u_{t}")


@given(st.dictionaries(UNTOUCHED, VALUES, max_size=4), st.booleans())
def test_unknown_fields_reach_the_provider_exactly(fields: dict[str, Any], escaped: bool) -> None:
    """What nobody here knows is sent on with every integer and character as it came."""
    body = json.dumps({**VISION, **fields}, ensure_ascii=escaped, indent=1)
    request = cap_output(parse(body.encode()), (), 4096)
    sent = going_up(request, TARGET)
    decoded = json.loads(sent)
    wanted = {"model": TARGET.model, "stream_options": {"include_usage": True}}
    assert decoded == {**VISION, **fields, **wanted}
    for name in fields:
        assert bytes(request.fields[name]) in sent


@given(st.integers(-(10**60), 10**60), st.text(max_size=20))
def test_integers_and_text_are_sent_verbatim(number: int, text: str) -> None:
    """Integers beyond 64 bits and any text keep their very bytes."""
    field = f'"u": [ {number} , {json.dumps(text, ensure_ascii=False)}]'
    sent = going_up(cap_output(parse(raw(field)), (), 10), TARGET)
    assert field.partition(": ")[2].encode() in sent
