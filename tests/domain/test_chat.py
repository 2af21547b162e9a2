"""Messages and their parts, and images put back into them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.messages import MOST_PARTS
from proxy.domain.sending import sent_messages
from proxy.domain.steps import finish
from proxy.domain.vocabulary import CARRIERS
from tests.domain.bodies import IMAGE, TEXT, VISION, asks, hello, parse, refused

USER = {"role": "user", "content": "Hello"}

WRONG_MESSAGES: list[tuple[Any, str]] = [
    ("Hello", "messages"),
    ({"role": "user"}, "messages"),
    ([], "messages"),
    (["Hello"], "messages[0]"),
    ([None], "messages[0]"),
    ([USER, [USER]], "messages[1]"),
    ([{"content": "x"}], "messages[0].role"),
    ([{"role": None, "content": "x"}], "messages[0].role"),
    ([{"role": "", "content": "x"}], "messages[0].role"),
    ([{"role": 0, "content": "x"}], "messages[0].role"),
    ([{"role": "User", "content": "x"}], "messages[0].role"),
    ([{"role": ["user"], "content": "x"}], "messages[0].role"),
    ([USER, {"role": "user"}], "messages[1].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "tool", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": TEXT}], "messages[0].content"),
    ([{"role": "user", "content": []}], "messages[0].content"),
    ([{"role": "assistant", "content": []}], "messages[0].content"),
    ([{**USER, "audio": {"id": "audio_1"}}], "messages[0].audio"),
    ([{**USER, "image_url": {"url": "https://a.example"}}], "messages[0].image_url"),
    ([{**USER, "Content": [IMAGE]}], "messages[0].Content"),
    ([{"role": "assistant", "CONTENT": [IMAGE]}], "messages[0].CONTENT"),
]


@pytest.mark.parametrize(("messages", "param"), WRONG_MESSAGES)
def test_wrong_messages(messages: Any, param: str) -> None:
    """A message that is none is refused by its place."""
    error = refused(hello(messages=messages))
    assert error.param == param
    assert param in error.message


WRONG_PARTS: list[tuple[Any, str]] = [
    ("Hello", ""),
    (None, ""),
    ([TEXT], ""),
    ({}, ".type"),
    ({"type": None, "text": "x"}, ".type"),
    ({"type": 5}, ".type"),
    ({"type": ["text"]}, ".type"),
    ({"type": "file", "file": {"file_id": "f"}}, ".type"),
    ({"type": "input_audio", "input_audio": {}}, ".type"),
    ({"type": "video_url", "video_url": {}}, ".type"),
    ({"type": "TEXT", "text": "x"}, ".type"),
    ({"type": "text"}, ".text"),
    ({"type": "text", "text": None}, ".text"),
    ({"type": "text", "text": ["x"]}, ".text"),
    ({"type": "refusal", "refusal": 5}, ".refusal"),
    ({"type": "refusal"}, ".refusal"),
    ({"type": "image_url"}, ".image_url"),
    ({"type": "image_url", "image_url": None}, ".image_url"),
    ({"type": "image_url", "image_url": "https://a.example/x.png"}, ".image_url"),
    ({"type": "image_url", "image_url": []}, ".image_url"),
    ({"type": "image_url", "image_url": {}}, ".image_url.url"),
    ({"type": "image_url", "image_url": {"url": None}}, ".image_url.url"),
    ({"type": "image_url", "image_url": {"url": 5}}, ".image_url.url"),
    ({"type": "image_url", "image_url": {"url": ["x"]}}, ".image_url.url"),
    ({"type": "image_url", "image_url": {"url": "x", "detail": "huge"}}, ".image_url.detail"),
    ({"type": "image_url", "image_url": {"url": "x", "detail": 1}}, ".image_url.detail"),
    ({"type": "image_url", "image_url": {"url": "x", "URL": "y"}}, ".image_url.URL"),
    ({"type": "text", "text": "x", "Image_Url": {"url": "y"}}, ".Image_Url"),
    ({"type": "text", "text": "x", "image_url": {"url": "y"}}, ".image_url"),
    ({**IMAGE, "video_url": {"url": "y"}}, ".video_url"),
]


@pytest.mark.parametrize(("part", "tail"), WRONG_PARTS)
def test_wrong_parts(part: Any, tail: str) -> None:
    """A part that is none is refused by its whole path, in `param` and in the message."""
    body = hello(messages=[USER, {"role": "user", "content": [TEXT, part]}])
    error = refused(body)
    assert error.param == f"messages[1].content[1]{tail}"
    # A type that is not allowed is told by its own name.
    assert error.param in error.message or repr(part["type"]) in error.message


@pytest.mark.parametrize("carrier", sorted(CARRIERS - {"image_url"}))
def test_media_hides_in_no_part(carrier: str) -> None:
    """A key by which some server takes media is refused where the type says another; null is not
    there.
    """
    part = {**TEXT, carrier: {"url": "http://169.254.169.254/"}}
    assert refused(asks(part)).param == f"messages[0].content[0].{carrier}"
    assert parse(asks(part), frozenset((carrier,))).images == ()
    assert parse(asks({**TEXT, carrier: None})).images == ()


def test_allowing_image_urls_does_not_hide_them() -> None:
    """Naming image_url in allow_parameters lets no unchecked image into a text part."""
    part = {**TEXT, "image_url": {"url": "http://169.254.169.254/"}}
    allowed = frozenset(("image_url",))
    assert refused(asks(part), allowed).param == "messages[0].content[0].image_url"


def test_a_plan_may_allow_other_parts() -> None:
    """A type of part that allow_parameters names passes as it came."""
    part = {"type": "file", "file": {"file_id": "f"}}
    request = parse(asks(part, TEXT), frozenset(("file",)))
    assert json.loads(bytes(request.fields["messages"]))[0]["content"] == [part, TEXT]


def test_an_assistant_need_not_say_anything() -> None:
    """An assistant's message may be calls of tools alone, with dumped nulls."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call], "audio": None}
    assert parse(hello(messages=[USER, message])).messages[1] == message
    assert parse(hello(messages=[USER, {"role": "assistant", "tool_calls": [call]}])).model


@pytest.mark.parametrize("shape", ["messages", "parts", "both", "thoughts", "calls"])
def test_messages_and_parts_are_bounded(shape: str) -> None:
    """Messages, parts and calls together may be MOST_PARTS, and not one more."""

    def messages(extra: int) -> list[Any]:
        if shape == "messages":
            return [USER] * (MOST_PARTS + extra)
        if shape == "thoughts":
            thoughts = [{"type": "text", "text": ""}] * (MOST_PARTS - 2 + extra)
            return [{"role": "assistant", "content": [{"type": "thinking", "thinking": thoughts}]}]
        if shape == "calls":
            return [{"role": "assistant", "tool_calls": [{"id": "c"}] * (MOST_PARTS - 1 + extra)}]
        if shape == "parts":
            return [{"role": "user", "content": [TEXT] * (MOST_PARTS - 1 + extra)}]
        half = MOST_PARTS // 2
        return [USER] * half + [{"role": "user", "content": [TEXT] * (half - 1 + extra)}]

    assert parse(hello(messages=messages(0))).messages
    assert refused(hello(messages=messages(1))).param == "messages"


def test_a_flood_of_parts_is_refused() -> None:
    """A flood of parts is refused, not looked at one by one, and a larger one not even decoded."""
    assert refused(asks(*[TEXT] * 50_000)).param == "messages"
    assert "too many values" in refused(asks(*[TEXT] * 150_000)).message
    quotes = [{"type": "text", "text": '":' * 1_600_000}]
    assert "too many values" in refused(asks(*quotes)).message


def test_images_are_found_in_order() -> None:
    """Every image part is found with its place and its own detail."""
    body = hello(
        messages=[
            {"role": "user", "content": [TEXT, IMAGE]},
            USER,
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "b", "detail": "original"}}],
            },
        ]
    )
    first, second = parse(body).images
    assert first == ImagePart(0, 1, "https://example.com/cat.png", None)
    assert second == ImagePart(2, 0, "b", "original")
    assert second.path == "messages[2].content[0].image_url"


def sent(request: ChatRequest) -> bytes:
    """The messages as a provider gets them."""
    return b"".join(finish(sent_messages(request)))


@pytest.mark.parametrize("own", ["low", "high", "auto", "original"])
def test_detail_is_pushed_down(own: str) -> None:
    """The detail at the top holds for the parts that have none of their own."""
    other = {"type": "image_url", "image_url": {"url": "b", "detail": own}}
    null = {"type": "image_url", "image_url": {"url": "c", "detail": None}}
    request = parse(asks(IMAGE, other, null, detail="low"))
    assert [image.detail for image in request.images] == ["low", own, "low"]
    after = json.loads(sent(request))
    details = [part["image_url"]["detail"] for part in after[0]["content"]]
    assert details == ["low", own, "low"]


def test_images_that_are_unchanged_cost_nothing() -> None:
    """A request whose images stay keeps the very bytes of its messages."""
    request = parse(VISION)
    sized = replace(request.images[0], width=10, height=20)
    (piece,) = finish(sent_messages(replace(request, images=(sized,))))
    assert memoryview(piece).obj is memoryview(request.fields["messages"]).obj


def test_all_but_a_changed_image_stays_the_clients_bytes() -> None:
    """Changing an image leaves numbers and escapes around it exactly as they came."""
    odd = '{ "n": 1.10, "big": 123456789012345678901234567890, "e": "\\u00e9\\/" }'
    image = f'{{"type": "image_url", "x": {odd}, "image_url": {{"url": "a", "y": {odd}}}}}'
    other = f'{{"role": "user", "content": "caf\\u00e9", "x": {odd}}}'
    mine = f'{{"role": "user", "content": [{image}, {{"type": "text", "text": "\\u00e9"}}]}}'
    body = f'{{"model": "m", "messages": [{other}, {mine}], "x": {odd}}}'.encode()
    request = parse(body, frozenset(("x", "y")))
    image = replace(request.images[0], url="https://b.example/é")
    changed = sent(replace(request, images=(image,))).decode()
    assert changed.count(odd) == 3
    assert other in changed
    assert '{"type": "text", "text": "\\u00e9"}' in changed
    expected = json.loads(body)["messages"]
    expected[1]["content"][0]["image_url"]["url"] = "https://b.example/é"
    assert json.loads(changed) == expected


def test_several_images_of_several_messages_are_changed() -> None:
    """Each image goes back into its own part."""
    content = [IMAGE, TEXT, IMAGE]
    messages = [{"role": "user", "content": content}, USER, {"role": "user", "content": content}]
    request = parse(hello(messages=messages))
    new = tuple(
        replace(image, url=f"https://{i}.example") for i, image in enumerate(request.images)
    )
    after = json.loads(sent(replace(request, images=new)))
    urls = [
        part["image_url"]["url"]
        for message in after
        for part in message["content"]
        if isinstance(part, dict) and part["type"] == "image_url"
    ]
    assert urls == [f"https://{i}.example" for i in range(4)]
    assert request.messages == messages
    assert parse(json.dumps({**hello(), "messages": after}).encode()).images == new


def test_the_reference_example_is_read() -> None:
    """The reference's own request is taken as it stands."""
    request = parse(VISION)
    assert (request.model, request.stream, request.cap, request.n) == ("gpt-4o", True, 1000, 1)
    assert request.include_usage is False
    assert len(request.images) == 1
