"""Requests as most of them are: short, and made of nothing but the usual fields.

These types say the rules of `parameters` and `messages` for the fields that they have, and one
decoding holds a body against all of them. What does not fit is no fault: `parse_chat` reads it,
and tells what is wrong with it, if anything is.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from proxy.domain.chat import ChatRequest, ImagePart, smaller, with_detail
from proxy.domain.cuts import BEGINNING, LONG
from proxy.domain.jsonbody import drops_no_key
from proxy.domain.parameters import LARGEST_CAP, LARGEST_N, Detail, PartDetail, Role
from proxy.domain.steps import STEP


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What is encoded again to the fields that were read, but for null; none is in a cycle."""


class _Link(_Strict):
    url: str
    detail: PartDetail | None = None


class _Text(_Strict, tag_field="type", tag="text"):
    text: str


class _Image(_Strict, tag_field="type", tag="image_url"):
    image_url: _Link


class _Message(_Strict):
    role: Role
    content: str | Annotated[list[_Text | _Image], Meta(min_length=1)]
    name: str | None = None


class _Options(_Strict):
    include_usage: bool | None = None


_Cap = Annotated[int, Meta(ge=1, le=LARGEST_CAP)]


class _Request(_Strict):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _Options | None = None
    max_tokens: _Cap | None = None
    max_completion_tokens: _Cap | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    n: Annotated[int, Meta(ge=1, le=LARGEST_N)] | None = None
    detail: Detail | None = None
    # What passes whatever it is, as it mostly is.
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None


_decode: Final = msgspec.json.Decoder(_Request).decode
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def plain_chat(body: bytes) -> ChatRequest | None:
    """The request of a body that is plainly a good one; None: `parse_chat` is to read it."""
    if len(body) > STEP or (len(body) > LONG and BEGINNING in body):
        return None
    try:
        read = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = _found(read.messages)
    if found is None or (read.stream_options and not read.stream) or not drops_no_key(body, read):
        return None
    texts, came = found
    return ChatRequest(
        model=read.model,
        fields=_fields(body),
        messages=(),
        turns=len(read.messages),
        came=came,
        images=with_detail(came, read.detail),
        size=len(body),
        stream=bool(read.stream),
        include_usage=bool(read.stream_options and read.stream_options.include_usage),
        cap=smaller(read.max_tokens, read.max_completion_tokens),
        n=read.n or 1,
        thinks=False,
        texts=texts,
    )


def _found(messages: list[_Message]) -> tuple[list[str], tuple[ImagePart, ...]] | None:
    """The texts and images of messages; None where an image may be in the request itself."""
    texts: list[str] = []
    images: list[ImagePart] = []
    for number, message in enumerate(messages):
        texts.append(message.role)
        if message.name:
            texts.append(message.name)
        content = message.content
        if isinstance(content, str):
            texts.append(content)
            continue
        for index, part in enumerate(content):
            if isinstance(part, _Text):
                texts += ("text", part.text)
                continue
            link = part.image_url
            if not link.url.startswith("http"):
                return None
            texts.append("image_url")
            images.append(ImagePart(number, index, link.url, link.detail))
    return texts, tuple(images)
