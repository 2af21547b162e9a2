"""An OpenAI request on its way out: what is replaced, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.domain.estimate import OutputCap, cap_output
from proxy.domain.routing import Target
from proxy.domain.usage import FREE
from proxy.providers.openai import encode, headers
from tests.domain.bodies import IMAGE, TEXT, VISION, asks, going_up, hello, parse, raw

TARGET = Target("openai", "gpt-4o-2024-11-20", 1, 1, FREE)


def sent(body: Any, output_param: str = "max_tokens", cap: int | None = None) -> dict[str, Any]:
    request = cap_output(parse(body), (OutputCap(cap=cap),), 4096)
    decoded: dict[str, Any] = json.loads(going_up(request, TARGET, output_param))
    return decoded


def test_the_model_is_the_targets() -> None:
    """The provider gets its own name of the model."""
    assert sent(hello())["model"] == "gpt-4o-2024-11-20"


@pytest.mark.parametrize("output_param", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 500},
        {"max_completion_tokens": 500},
        {"max_tokens": 700, "max_completion_tokens": 500},
        {"max_tokens": None, "max_completion_tokens": 500},
    ],
)
def test_one_cap_is_sent(fields: dict[str, Any], output_param: str) -> None:
    """Whatever names the client used, the cap goes out once, under the model's own name."""
    out = sent(hello(**fields), output_param)
    caps = {name: out[name] for name in ("max_tokens", "max_completion_tokens") if name in out}
    assert caps == {output_param: 500 if fields else 4096}
    assert sent(hello(**fields), output_param, cap=100)[output_param] == 100


def test_detail_at_the_top_is_not_sent_on() -> None:
    """The reference's own field reaches the provider inside the images alone."""
    request = cap_output(parse(asks(IMAGE, TEXT, detail="low")), (), 10)
    out = json.loads(going_up(request, TARGET))
    assert "detail" not in out
    assert out["messages"][0]["content"][0]["image_url"]["detail"] == "low"
    assert "detail" not in sent(hello(detail=None))


@pytest.mark.parametrize(
    ("options", "out"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": True}, {"include_usage": True}),
        (
            {"include_usage": None, "big": 10**30, "x": {"y": [1.10]}},
            {"include_usage": True, "big": 10**30, "x": {"y": [1.10]}},
        ),
    ],
)
def test_usage_is_always_asked_for(options: Any, out: Any) -> None:
    """A stream asks for its usage, whatever the client said; its other options stay."""
    assert sent(hello(stream=True, stream_options=options))["stream_options"] == out


def test_no_stream_no_stream_options() -> None:
    """Without a stream the provider is not asked what it would refuse."""
    assert "stream_options" not in sent(hello())
    assert "stream_options" not in sent(hello(stream=False))


def test_all_else_is_the_clients() -> None:
    """Every other field is what came, n and null fields too."""
    body = {**VISION, "n": 3, "temperature": None, "seed": 2**70, "made_up": {"x": [None, "é"]}}
    wanted = {"model": TARGET.model, "stream_options": {"include_usage": True}}
    assert sent(body) == {**body, **wanted}


@pytest.mark.parametrize(
    "value",
    ["1.10", "1E5", "-0", "123456789012345678901234567890", '"\\u00e9\\/"', "{ }", "[1 ,2]"],
)
def test_bytes_are_the_clients(value: str) -> None:
    """The bytes of a field that nobody changed go out as they came."""
    request = cap_output(parse(raw(f'"made_up": {value}')), (), 10)
    assert b'"made_up":' + value.encode() in going_up(request, TARGET)


@pytest.mark.parametrize("link", ["DATA:image/png;base64,", r"data:image/png;base64,\/"])
def test_large_messages_are_not_copied(link: str) -> None:
    """Messages of much data go up where they lie, also those of which none was cut out."""
    text = json.dumps(asks({"type": "image_url", "image_url": {"url": "LINK" + "A" * (1 << 20)}}))
    request = cap_output(parse(text.replace("LINK", link).encode()), (), 10)
    pieces = encode(request, None, TARGET, "max_tokens")
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [bytes(view) for view in views] == [bytes(request.fields["messages"])]
    assert len(b"".join(pieces)) - len(views[0]) < 200


def test_headers() -> None:
    """The provider's key is sent as a bearer; a local server may need none."""
    assert headers("sk-1") == {"authorization": "Bearer sk-1"}
    assert headers(None) == headers("") == {}
