"""What goes up of a request that was changed: the client's own bytes around what is new. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final, TypeVar

import msgspec

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.cuts import HOLE, Pieces, filled
from proxy.domain.steps import STEP, Steps

T = TypeVar("T")

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode

#: What no JSON has: a hole in a body of which nothing was cut, where a HOLE may be somebody's text.
_NUL: Final = b"\0"


def as_came(request: ChatRequest) -> bool:
    """Whether the messages are to be sent as the client wrote them."""
    if any([image.cut for image in request.came]):
        return False
    return request.images is request.came or not any(map(_differs, request.images, request.came))


def sent_messages(request: ChatRequest) -> Steps[Pieces]:
    """The messages with their images as `images` has them; all else is the client's bytes."""
    raw: bytes | msgspec.Raw = request.fields["messages"]
    changed: list[ImagePart] = []
    data: Pieces = []
    hole = _NUL
    for image, came in zip(request.images, request.came, strict=True):
        differs = _differs(image, came)
        if differs:
            changed.append(image)
        if image.cut:
            hole = HOLE
        if image.data is not None and (image.cut or differs):
            data.append(image.data)
    if changed:
        messages: list[Any] = yield from _opened(request.fields["messages"], _LIST)
        for number, group in groupby(changed, key=lambda image: image.message):
            messages[number] = yield from _with_images(messages[number], group, hole)
        raw = _encode(messages)
    return filled(bytes(raw), hole, data) if data else [memoryview(raw)]


def _differs(image: ImagePart, came: ImagePart) -> bool:
    return image.url != came.url or image.detail != came.detail


def _opened(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> Steps[T]:
    """One level of a value; what is long has a step of its own."""
    if len(memoryview(raw)) > STEP:
        yield
    return decoder.decode(raw)


def _with_images(
    raw: msgspec.Raw, images: Iterable[ImagePart], hole: bytes
) -> Steps[dict[str, Any]]:
    message: dict[str, Any] = yield from _opened(raw, _OBJECT)
    parts: list[Any] = yield from _opened(message["content"], _LIST)
    for image in images:
        part: dict[str, Any] = yield from _opened(parts[image.part], _OBJECT)
        inner: dict[str, Any] = yield from _opened(part["image_url"], _OBJECT)
        inner["url"] = image.url
        if image.data is not None:
            inner["url"] = msgspec.Raw(_encode(image.url)[:-1] + hole + b'"')
        if image.detail is not None:
            inner["detail"] = image.detail
        parts[image.part] = {**part, "image_url": inner}
    return {**message, "content": parts}
