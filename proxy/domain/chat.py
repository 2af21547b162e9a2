"""A chat request: read and validated once, carried on as a frozen value.

The client's own bytes are kept per field, so that what nobody changed goes upstream
exactly as it came. They are of many megabytes where images are in them: what is large is looked
at where it lies, and never copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from proxy.domain import parameters as rule
from proxy.domain.cuts import LONG, MOST_HEAD, cut_data, is_cut
from proxy.domain.errors import BadRequest
from proxy.domain.jsonbody import object_steps
from proxy.domain.messages import check_list, check_message, check_part
from proxy.domain.steps import Steps

#: Messages or parts that are checked in one step.
_AT_ONCE: Final = 64


class ImagePart(Struct, frozen=True):
    """One image of a request.

    `url` is its link, or all of a data: URI up to the comma; `data` is then what follows it, and
    `cut` whether it was cut out of the request's `fields`. Sides in pixels, `format` and `size`
    in bytes are known where the whole image is at hand, and 0 or "" otherwise.
    """

    message: int
    part: int
    url: str
    detail: str | None
    width: int = 0
    height: int = 0
    format: str = ""
    size: int = 0
    data: bytes | memoryview | None = None
    cut: bool = False

    def __repr__(self) -> str:
        return f"<image at {self.path}>"

    @property
    def path(self) -> str:
        return f"messages[{self.message}].content[{self.part}].image_url"

    @property
    def sized(self) -> bool:
        return self.width > 0


class ChatRequest(Struct, frozen=True):
    """A valid request.

    `fields` are the client's bytes by name, with a HOLE where data were cut out. There are `turns`
    messages; `messages` are all of them, decoded but for the `data` of images, or none where the
    prompt's `texts` are known (names and roles among them; None: not known). `images` are to be
    sent, `came` as the client wrote them. `size` in bytes is that of all but their data. `cap` are
    the output tokens asked for (None: not said) and, once capped, the bound that the upstream is
    held to; `n` choices multiply it. `thinks`: it has the model think first.
    """

    model: str
    fields: Mapping[str, Raw]
    messages: Sequence[dict[str, Any]]
    turns: int
    came: tuple[ImagePart, ...]
    images: tuple[ImagePart, ...]
    size: int
    stream: bool
    include_usage: bool
    cap: int | None
    n: int
    thinks: bool
    texts: list[str] | None = None

    def __repr__(self) -> str:
        return f"<request to {self.model} of {self.size} bytes and {len(self.images)} images>"


def parse_chat(body: bytes, allowed: frozenset[str] = frozenset()) -> Steps[ChatRequest]:
    """Read and validate a request body.

    `allowed` are the plan's `allow_parameters`. Raises BadRequest naming the field.
    """
    short, cuts = (yield from cut_data(body)) if len(body) > LONG else (body, [])
    if cuts:
        # What is wrong is told by its place in the body as it came.
        with suppress(BadRequest):
            request = yield from _chat(short, len(body), cuts, allowed)
            if sum([image.cut for image in request.images]) == len(cuts):
                return request
    return (yield from _chat(body, len(body), (), allowed))


def _chat(
    body: bytes, size: int, cuts: Sequence[memoryview], allowed: frozenset[str]
) -> Steps[ChatRequest]:
    raw, fields = yield from object_steps(body)
    rule.check_spelling(fields, allowed=allowed)
    model = _model(fields)
    rule.refuse_parameters(fields, allowed)
    rule.temperature(fields)
    stream = rule.boolean(fields, "stream")
    include_usage = _include_usage(fields, stream)
    detail = rule.choice(fields.get("detail"), "detail", rule.DETAILS)
    messages = yield from _messages(fields, len(body), allowed)
    came = yield from _images(messages, cuts, allowed)
    for image in came:
        size -= len(image.data or b"")
    return ChatRequest(
        model=model,
        fields=raw,
        messages=messages,
        turns=len(messages),
        came=came,
        images=with_detail(came, detail),
        size=size,
        stream=stream,
        include_usage=include_usage,
        cap=smaller(
            rule.positive(fields, "max_tokens"), rule.positive(fields, "max_completion_tokens")
        ),
        n=rule.positive(fields, "n", rule.LARGEST_N) or 1,
        thinks=rule.thinks(fields),
    )


def split_data(url: str) -> tuple[str, memoryview | None]:
    """A data: URI up to its comma, and what follows; any other URL as it is."""
    comma = url.find(",", 0, MOST_HEAD)
    if comma < 0 or url[:5].lower() != "data:":
        return url, None
    head = url[: comma + 1]
    return head, memoryview(url.encode())[len(head.encode()) :]


def _model(fields: Mapping[str, Any]) -> str:
    model = fields.get("model")
    if model is None:
        raise rule.missing("model", "name one of those that GET /v1/models lists")
    if not isinstance(model, str):
        raise rule.wrong_type("model", "a string", model)
    if not model:
        raise rule.invalid("model", "must not be empty")
    return model


def _include_usage(fields: Mapping[str, Any], stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise rule.wrong_type("stream_options", "an object", options)
    rule.check_spelling(options, "stream_options.")
    if not stream:
        raise BadRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is true.",
            param="stream_options",
        )
    value = options.get("include_usage")
    if value is not None and not isinstance(value, bool):
        raise rule.wrong_type("stream_options.include_usage", "true or false", value)
    return value is True


def smaller(cap: int | None, other: int | None) -> int | None:
    """Clients send the cap under either name, and some under both: the smaller one binds."""
    return min(cap, other) if cap and other else cap or other


def with_detail(images: tuple[ImagePart, ...], detail: str | None) -> tuple[ImagePart, ...]:
    """The images with the request's `detail` where they have none of their own."""
    if detail is None:
        return images
    return tuple([image if image.detail else replace(image, detail=detail) for image in images])


def _messages(
    fields: Mapping[str, Any], size: int, allowed: frozenset[str]
) -> Steps[list[dict[str, Any]]]:
    messages = check_list(fields.get("messages"), size)
    for number, message in enumerate(messages):
        if number % _AT_ONCE == _AT_ONCE - 1:
            yield
        check_message(message, number, allowed)
    return messages


def _images(
    messages: list[dict[str, Any]],
    cuts: Sequence[memoryview],
    allowed: frozenset[str],
) -> Steps[tuple[ImagePart, ...]]:
    images: list[ImagePart] = []
    left = iter(cuts)
    seen = 0
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            seen += 1
            if seen % _AT_ONCE == 0:
                yield
            check_part(part, number, index, allowed)
            if part["type"] == "image_url":
                image = part["image_url"]
                url, own, data, cut = image["url"], image.get("detail"), None, False
                if url[:5].lower() == "data:":
                    cut = bool(cuts) and is_cut(url)
                    url, data = (url[:-1], next(left)) if cut else split_data(url)
                    image["url"] = url
                images.append(ImagePart(number, index, url, own, data=data, cut=cut))
    return tuple(images)
