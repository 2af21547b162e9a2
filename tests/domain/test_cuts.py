"""Data that are cut out of a body: where, and how they come back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import HOLE, LONG, cut_data, filled
from proxy.domain.errors import BadRequest, ImageRefused
from proxy.domain.sending import sent_messages
from proxy.domain.steps import finish
from proxy.images.judge import judge, rules_of
from tests.domain.bodies import IMAGE, TEXT, USER, asks, hello, parse, refused
from tests.images.samples import data_uri, large_png, make_policy

HEAD = "data:image/png;base64,"
URI = data_uri(large_png(2 * LONG))
RULES = rules_of((make_policy(),), frozenset(), 1, False)


def image(url: str = URI, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def written(request: ChatRequest) -> bytes:
    return b"".join(finish(sent_messages(request)))


def sent(request: ChatRequest) -> Any:
    return json.loads(written(request))


PIECES = st.lists(
    st.sampled_from(
        [
            *(f'"{URI}"', f'{{"url": "{URI}"}}', f'"{HEAD}QUJD"', f'\\"{URI}\\"', f'"{URI}\\/"'),
            *(
                f'data:x,"{URI}',
                '"data:',
                '"',
                "\\",
                ",",
                ":",
                "x" * LONG,
                HOLE.decode(),
                "\\u007f",
                "\\u0070",
                "é",
            ),
        ]
    ),
    max_size=8,
)


@given(PIECES)
def test_what_is_cut_comes_back(pieces: list[str]) -> None:
    """A body is what is left of it with the data in the holes, whatever it is."""
    body = "".join(pieces).encode()
    left, cuts = finish(cut_data(body))
    assert b"".join(filled(left, HOLE, cuts)) == body if cuts else left == body
    assert all(len(cut) >= LONG and cut.obj is body for cut in cuts)


@given(PIECES, st.booleans())
def test_a_cut_is_seen_by_nobody(texts: list[str], detail: bool) -> None:
    """Images and texts are read and sent the same, whether anything was cut or not."""
    parts = [image(text) if i % 2 else {**TEXT, "text": text} for i, text in enumerate(texts)]
    body = asks(TEXT, image(), *parts, **({"detail": "low"} if detail else {}))
    request, whole = parse(body), parse({**body, "x": HOLE.decode()})
    assert not any(image.cut for image in whole.images)
    assert request.messages == whole.messages
    for one, other in zip(request.images, whole.images, strict=True):
        assert replace(one, data=None, cut=False) == replace(other, data=None)
        assert (one.data is None) == (other.data is None)
        assert bytes(one.data or b"") == bytes(other.data or b"")
    assert written(request) == written(whole)


def test_a_large_image_is_not_read_as_json() -> None:
    """Beside its image a large body is a short one."""
    request = parse(asks(TEXT, image(), image(f"{HEAD}QUJD")))
    assert [image.cut for image in request.images] == [True, False]
    assert len(bytes(request.fields["messages"])) < 300
    assert sent(request) == asks(TEXT, image(), image(f"{HEAD}QUJD"))["messages"]


@pytest.mark.parametrize("hole", ["\x7f", "\\u007f", "\\u007F"])
def test_a_hole_of_the_clients_own(hole: str) -> None:
    """Where a body holds what stands for cut data, nothing is cut."""
    body = json.dumps(asks(image(), image(f"{HEAD}HOLE"))).replace("HOLE", hole).encode()
    assert finish(cut_data(body)) == (body, [])
    first, second = parse(body).images
    assert (first.data, second.data) == (URI[len(HEAD) :].encode(), b"\x7f")
    assert sent(parse(body)) == json.loads(body)["messages"]


def test_data_come_into_a_body_with_holes() -> None:
    """An image that is to go up inline goes into a body that was not cut, too."""
    request = parse(asks(IMAGE, {**TEXT, "text": "\x7f"}, image("data:x,\x7f")))
    link, own = request.images
    new = (replace(link, url=HEAD, data=b"QUJD"), own)
    content = sent(replace(request, images=new))[0]["content"]
    assert content == [image(f"{HEAD}QUJD"), {**TEXT, "text": "\x7f"}, image("data:x,\x7f")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f'{{"model": "m", "messages": [{{"x": "{URI}"}}], "n": 1, "n": 2}}', "'n' appears twice"),
        (f'{{"url": "{URI}", "url": "{URI}"}}', "'url' appears twice"),
        (f'{{"x": "{URI}", }}', f"byte {len(URI) + 10}"),
        (f'{{"x": "{URI}"', "truncated"),
        (f'{{"x": "{URI}', "truncated"),
        (f'{{"x": "{URI}é'.replace("é", "\ud800") + '"}', "not UTF-8"),
    ],
)
def test_faults_are_told_of_the_body_as_it_came(body: str, message: str) -> None:
    """What is wrong with a body that was cut is told as of one that was not, with its place."""
    assert message in refused(body.encode(errors="surrogatepass")).message


@given(st.integers(0, 255), st.integers(0, LONG))
def test_nothing_but_base64_goes_up(byte: int, at: int) -> None:
    """Whatever byte is in cut data, what is sent is JSON: else the body or the image is refused."""
    body = bytearray(json.dumps(asks(image())).encode())
    body[body.index(b",", body.index(b"data:")) + 1 + at] = byte
    try:
        request = parse(bytes(body))
        for part in request.images:
            finish(judge(part, RULES))
    except (BadRequest, ImageRefused):
        return
    assert sent(request) == json.loads(bytes(body))["messages"]


def test_a_flood_of_uris_is_left_whole() -> None:
    """Of more URIs than any request has, none is looked at in vain for long."""
    body = b'{"x": [' + b'"data:,", ' * 200_000 + b"1]}"
    steps = cut_data(body)
    assert sum(1 for _ in steps) < 100
    assert finish(cut_data(body)) == (body, [])


def test_nothing_of_a_request_is_shown() -> None:
    """Neither prompts nor images are in what a traceback or a log would show of a request."""
    shown = repr(parse(hello(messages=[USER, *asks(image(), IMAGE)["messages"]])))
    assert shown == "<request to gpt-4o of 249 bytes and 2 images>"
    assert repr(parse(asks(IMAGE)).images) == "(<image at messages[0].content[0].image_url>,)"
