"""What goes up of a request that was changed: the client's own bytes around what is new. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from proxy.domain.chat import ChatRequest, ImagePart
from proxy.domain.jsonbody import Pieces, write_list, write_object
from proxy.domain.steps import STEP, Steps

T = TypeVar("T")

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def sent_messages(request: ChatRequest) -> Steps[Pieces]:
    """The messages with their images as `images` has them; all else is the client's bytes."""
    raw = request.fields["messages"]
    changed = [image for image in request.images if not _says(request.messages, image)]
    if not changed:
        return Pieces([memoryview(raw)])
    messages: list[Any] = yield from _opened(raw, _LIST)
    for number, group in groupby(changed, key=lambda image: image.message):
        messages[number] = yield from _with_images(messages[number], group)
    return write_list(messages)


def _says(messages: list[dict[str, Any]], image: ImagePart) -> bool:
    said = messages[image.message]["content"][image.part]["image_url"]
    return bool(said["url"] == image.url and said.get("detail") == image.detail)


def _opened(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> Steps[T]:
    """One level of a value; what is long has a step of its own."""
    if len(memoryview(raw)) > STEP:
        yield
    return decoder.decode(raw)


def _with_images(raw: msgspec.Raw, images: Iterable[ImagePart]) -> Steps[Pieces]:
    message = yield from _opened(raw, _OBJECT)
    parts: list[Any] = yield from _opened(message["content"], _LIST)
    for image in images:
        part = yield from _opened(parts[image.part], _OBJECT)
        inner: dict[str, Any] = {**(yield from _opened(part["image_url"], _OBJECT))}
        inner["url"] = image.url
        if image.data is not None:
            head = msgspec.json.encode(image.url)
            inner["url"] = Pieces([head[:-1], image.data, head[-1:]])
        if image.detail is not None:
            inner["detail"] = image.detail
        parts[image.part] = write_object({**part, "image_url": write_object(inner)})
    return write_object({**message, "content": write_list(parts)})
