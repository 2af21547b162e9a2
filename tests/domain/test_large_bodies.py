"""Bodies that are long: read in steps, and what is large in them is never copied."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.domain import jsonbody
from proxy.domain.chat import ChatRequest, parse_chat
from proxy.domain.errors import BadRequest
from proxy.domain.jsonbody import read_object
from proxy.domain.sending import sent_messages
from proxy.domain.steps import STEP, finish
from proxy.images.judge import judge, rules_of
from tests.domain.bodies import TEXT, asks, hello, parse
from tests.images.samples import data_uri, large_png, make_policy

LONG = data_uri(large_png(4 * STEP))
HEAD = "data:image/png;base64,"


def image(url: str = LONG, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def sent(request: ChatRequest) -> bytes:
    return b"".join(finish(sent_messages(request)))


def test_an_image_stays_in_the_body() -> None:
    """The data of a long data: URI is a view of where it lies, and in no message."""
    body = json.dumps(asks(TEXT, image(detail="low"))).encode()
    request = parse(body)
    (found,) = request.images
    assert found.url == HEAD
    assert isinstance(found.data, memoryview)
    assert found.data.tobytes().decode() == LONG.removeprefix(HEAD)
    said = {"type": "image_url", "image_url": {"url": HEAD, "detail": "low"}}
    assert request.messages[0]["content"] == [TEXT, said]
    assert request.size == len(body) - len(found.data)
    assert json.loads(sent(request)) == json.loads(body)["messages"]


def test_a_short_image_is_no_other() -> None:
    """A data: URI that is short is read as a long one is."""
    (found,) = parse(asks(image(f"{HEAD}QUJD"))).images
    assert (found.url, bytes(found.data or b"")) == (HEAD, b"QUJD")


def test_escapes_in_an_image() -> None:
    """A long data: URI with JSON's escapes, as PHP writes them, is the same image."""
    body = json.dumps(asks(image())).replace("/", "\\/").encode()
    (found,) = parse(body).images
    assert found.url == HEAD
    assert bytes(found.data or b"").decode() == LONG.removeprefix(HEAD)


@pytest.mark.parametrize(
    "url", ["data:" + "A" * 2 * STEP, "x" * 2 * STEP, HEAD.upper() + "A" * STEP]
)
def test_other_long_urls(url: str) -> None:
    """Only a data: URI whose head is a short one is taken apart, in whatever case it is written."""
    (found,) = parse(asks(image(url))).images
    assert found.url + bytes(found.data or b"").decode() == url
    assert (found.data is None) == (not url.startswith("DATA:"))


def test_a_text_is_never_taken_for_an_image() -> None:
    """A long text that looks like a data: URI is in the messages, where it is counted."""
    text = f"{HEAD}{'A' * STEP}"
    request = parse(asks({"type": "text", "text": text}, image()))
    assert request.messages[0]["content"][0]["text"] == text
    assert parse(hello(messages=[{"role": "user", "content": text}])).size > len(text)


def test_another_detail_costs_no_copy() -> None:
    """Where a long image goes up with another detail, its data are still those of the body."""
    body = json.dumps(asks(image(), TEXT, image(detail="high"))).encode()
    request = parse(body)
    images = tuple(replace(image, detail="low") for image in request.images)
    pieces = finish(sent_messages(replace(request, images=images)))
    long = [piece for piece in pieces if len(piece) > STEP]
    assert len(long) == 2
    assert all(piece is image.data for piece, image in zip(long, images, strict=True))
    parts = json.loads(b"".join(pieces))[0]["content"]
    assert parts == [image(detail="low"), TEXT, image(detail="low")]


def test_copies() -> None:
    """From its bytes to those that go up, a long request is in memory twice at the most."""
    picture = data_uri(large_png(3 << 20))
    body = json.dumps(asks(TEXT, image(picture), detail="high")).encode()
    rules = rules_of((make_policy(),), frozenset(), 1, False)
    tracemalloc.start()
    try:
        request = finish(parse_chat(body))
        judged = finish(judge(request.images[0], rules))
        pieces = finish(sent_messages(replace(request, images=(judged,))))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, pieces)) > len(picture)
    assert peak < 0.95 * len(body)  # beside the body itself
    assert held < 0.05 * len(body)


BODIES = (
    b'{"a" :1,"b"\n\t: "x\\" : y", "c": [{"d":"e\\u00e9" , "f"  :{}}]}',
    '{"é": "日本語 \U0001f600", "a":"\\":", "": ["", ":", "a\\":"]}'.encode(),
    b'{"a": "' + b'\\" :' * 9 + b'", "b": ":"}',
    b'{"a": "' + b'\\" :' * 9 + b'", "b\\\\": "\\\\", "\\\\\\"": 1, "c\\"": ["\\\\\\":"]}',
)


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("body", BODIES)
def test_no_cut_is_seen(body: bytes, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the steps cut a body, it is the same object, and the slow reader is asked only
    where a text begins with a colon.
    """
    expected = json.loads(body)
    slow: list[bytes] = []
    monkeypatch.setattr(jsonbody, "STEP", step)
    monkeypatch.setattr(jsonbody, "_refuse_duplicates", slow.append)
    assert read_object(body)[1] == expected
    assert bool(slow) == (b' ":"' in body)


@given(st.integers(0, 70), st.integers(0, 70), st.integers(1, 80), st.sampled_from([1, 2]))
def test_backslashes_hide_no_duplicate(before: int, within: int, step: int, times: int) -> None:
    """However many backslashes stand before quotes, in names and texts, what is seen is that a
    name comes twice, and nothing else.
    """
    name, text = "x" + "\\" * before, "\\" * within + '":'
    twice = ",".join(f"{json.dumps(name)}:{json.dumps(text)}" for _ in range(2))
    once = json.dumps({name: text, text: name, "y": [text, name]})
    more = ",".join(['"c":1'] * times)  # one name not seen, for each that was dropped
    body = f'{{"a": {{{twice}}}, "b": [{json.dumps(text)}, {{{more}}}]}}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonbody, "STEP", step)
        assert read_object(once.encode())[1] == json.loads(once)
        with pytest.raises(BadRequest, match="twice"):
            read_object(body.encode())


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("blank", ["", " ", "\n\t  "])
def test_no_cut_hides_a_duplicate(step: int, blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that comes twice is refused wherever the steps cut."""
    monkeypatch.setattr(jsonbody, "STEP", step)
    with pytest.raises(BadRequest, match="twice"):
        read_object(f'{{"a"{blank}:1, "b":{{"c"{blank}: 2,"c"{blank}:3}}}}'.encode())


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("at", range(2, 14))
def test_no_cut_hides_a_broken_character(
    step: int, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not UTF-8 is refused by its place in the body."""
    monkeypatch.setattr(jsonbody, "STEP", step)
    body = '{"é日\U0001f600": 1}'.encode()
    body = body[:at] + b"\xff" + body[at:]
    with pytest.raises(UnicodeDecodeError) as broken:
        body.decode()
    with pytest.raises(BadRequest, match=rf"\(byte {broken.value.start}\)"):
        read_object(body)
