"""A chat request: read and validated once, carried on as a frozen value.

The client's own bytes are kept per field, so that what nobody changed goes upstream
exactly as it came. They are of many megabytes where images are in them: what is large is looked
at where it lies, and never copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from proxy.domain import parameters as rule
from proxy.domain.errors import BadRequest
from proxy.domain.jsonbody import MOST_HEAD, DataUri, object_steps
from proxy.domain.steps import Steps
from proxy.domain.vocabulary import CACHE_KEYS, IMAGE_KEYS, PARTS, THOUGHTS

#: Messages, parts and calls together: no honest request comes near, and each costs a check.
MOST_PARTS: Final = 10_000

#: Messages or parts that are checked in one step.
_AT_ONCE: Final = 64

#: Where images are.
_URLS: Final = ("messages", ..., "content", ..., "image_url", "url")


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One image of a request.

    `url` is its link, or all of a data: URI up to the comma; `data` is then what follows it.
    Sides in pixels, `format` and `size` in bytes are known where the whole image is at hand,
    and 0 or "" otherwise.
    """

    message: int
    part: int
    url: str
    detail: str | None
    width: int = 0
    height: int = 0
    format: str = ""
    size: int = 0
    data: bytes | memoryview | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        return f"messages[{self.message}].content[{self.part}].image_url"

    @property
    def sized(self) -> bool:
        return self.width > 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid request.

    `fields` are the client's bytes by name, `messages` the same messages decoded but for the
    `data` of images, `images` as they are to be sent. `size` in bytes is that of all but this
    data. `cap` are the output tokens asked for (None: not said) and, once capped, the bound that
    the upstream is held to; `n` choices multiply it. `thinks`: it has the model think first.
    """

    model: str
    fields: Mapping[str, msgspec.Raw] = field(repr=False)
    messages: list[dict[str, Any]] = field(repr=False)
    images: tuple[ImagePart, ...] = field(repr=False)
    size: int
    stream: bool
    include_usage: bool
    cap: int | None
    n: int
    thinks: bool


def parse_chat(body: bytes, allowed: frozenset[str] = frozenset()) -> Steps[ChatRequest]:
    """Read and validate a request body.

    `allowed` are the plan's `allow_parameters`. Raises BadRequest naming the field.
    """
    raw, fields = yield from object_steps(body, _URLS)
    rule.check_spelling(fields, allowed=allowed)
    model = _model(fields)
    rule.refuse_parameters(fields, allowed)
    rule.temperature(fields)
    stream = rule.boolean(fields, "stream")
    include_usage = _include_usage(fields, stream)
    detail = rule.choice(fields.get("detail"), "detail", rule.DETAILS)
    messages = yield from _messages(fields, allowed)
    images = yield from _images(messages, detail, allowed)
    return ChatRequest(
        model=model,
        fields=raw,
        messages=messages,
        images=images,
        size=len(body) - sum(len(image.data or b"") for image in images),
        stream=stream,
        include_usage=include_usage,
        cap=_cap(fields),
        n=rule.positive(fields, "n", rule.LARGEST_N) or 1,
        thinks=rule.thinks(fields),
    )


def split_data(url: str) -> tuple[str, memoryview | None]:
    """A data: URI up to its comma, and what follows; any other URL as it is."""
    if isinstance(url, DataUri):
        return str(url), url.data
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


def _cap(fields: Mapping[str, Any]) -> int | None:
    """Clients send either name, and some send both: the smaller one binds."""
    names = ("max_tokens", "max_completion_tokens")
    caps = [cap for name in names if (cap := rule.positive(fields, name)) is not None]
    return min(caps, default=None)


def _messages(fields: Mapping[str, Any], allowed: frozenset[str]) -> Steps[list[dict[str, Any]]]:
    messages = fields.get("messages")
    if messages is None:
        raise rule.missing("messages")
    if not isinstance(messages, list):
        raise rule.wrong_type("messages", "a list of messages", messages)
    if not messages:
        raise rule.invalid("messages", "must hold at least one message")
    if sum(map(_size, messages)) > MOST_PARTS:
        raise rule.invalid("messages", f"must hold at most {MOST_PARTS} messages and parts")
    for index, message in enumerate(messages):
        if index % _AT_ONCE == _AT_ONCE - 1:
            yield
        _check_message(message, f"messages[{index}]", allowed)
    return messages


def _size(message: Any) -> int:
    """How many of what costs a check a message is: itself, its parts, what is in its thoughts,
    its calls.
    """
    if not isinstance(message, dict):
        return 1
    lists = [
        inner for name in ("content", "tool_calls") if isinstance(inner := message.get(name), list)
    ]
    thoughts = (part.get("thinking") for inner in lists for part in inner if isinstance(part, dict))
    return 1 + sum(map(len, lists)) + sum(len(t) for t in thoughts if isinstance(t, list))


def _check_message(message: Any, path: str, allowed: frozenset[str]) -> None:
    if not isinstance(message, dict):
        raise rule.wrong_type(path, "an object with a role and content", message)
    rule.check_spelling(message, f"{path}.", allowed)
    rule.check_cache(message, path, allowed)
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            rule.check_cache(call, f"{path}.tool_calls[{index}]", allowed)
    role = rule.choice(message.get("role"), f"{path}.role", rule.ROLES)
    if role is None:
        raise rule.missing(f"{path}.role")
    stray = rule.stray_carrier(message, "content", allowed)
    if stray is not None:
        raise rule.invalid(f"{path}.{stray}", "is not allowed with this key")
    content = message.get("content")
    if content is None:
        if role not in ("assistant", "function"):
            raise rule.missing(f"{path}.content", "a string or a list of typed parts")
    elif not isinstance(content, str | list):
        raise rule.wrong_type(f"{path}.content", "a string or a list of typed parts", content)
    elif content == []:
        raise rule.invalid(f"{path}.content", "must hold at least one part")


def _images(
    messages: list[dict[str, Any]], detail: str | None, allowed: frozenset[str]
) -> Steps[tuple[ImagePart, ...]]:
    images: list[ImagePart] = []
    seen = 0
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            seen += 1
            if seen % _AT_ONCE == 0:
                yield
            path = f"messages[{number}].content[{index}]"
            kind = _part_type(part, path, allowed)
            if kind == "image_url":
                url, own = _image_url(part, f"{path}.image_url", allowed)
                url, data = split_data(url)
                part["image_url"]["url"] = url
                images.append(ImagePart(number, index, url, own or detail, data=data))
    return tuple(images)


def _part_type(part: Any, path: str, allowed: frozenset[str]) -> str:
    if not isinstance(part, dict):
        raise rule.wrong_type(path, "an object with a type", part)
    kind = part.get("type")
    if kind is None:
        raise rule.missing(f"{path}.type")
    if not isinstance(kind, str):
        raise rule.wrong_type(f"{path}.type", "a string", kind)
    if kind not in PARTS and kind not in allowed:
        raise BadRequest(
            f"Content parts of the type '{kind[:64]}' are not allowed with this key; send 'text' "
            "or 'image_url' parts, or ask the platform team to add it to allow_parameters.",
            param=f"{path}.type",
            code="invalid_value",
        )
    rule.check_keys(part, PARTS.get(kind, ("type", kind, *CACHE_KEYS)), path, allowed)
    if kind == "thinking" and isinstance(part.get(kind), list):
        _check_thoughts(part[kind], f"{path}.{kind}", allowed)
    elif kind in ("text", "refusal", "thinking") and not isinstance(part.get(kind), str):
        if part.get(kind) is None:
            raise rule.missing(f"{path}.{kind}")
        raise rule.wrong_type(f"{path}.{kind}", "a string", part[kind])
    return kind


def _check_thoughts(thoughts: list[Any], path: str, allowed: frozenset[str]) -> None:
    for index, thought in enumerate(thoughts):
        if _part_type(thought, f"{path}[{index}]", allowed) not in THOUGHTS:
            raise rule.invalid(f"{path}[{index}].type", f"must be one of {', '.join(THOUGHTS)}")


def _image_url(
    part: Mapping[str, Any], path: str, allowed: frozenset[str]
) -> tuple[str, str | None]:
    image = part.get("image_url")
    if image is None:
        raise rule.missing(path, "an object with a url")
    if not isinstance(image, dict):
        raise rule.wrong_type(path, 'an object as in {"url": "https://..."}', image)
    rule.check_keys(image, IMAGE_KEYS, path, allowed)
    url = image.get("url")
    if url is None:
        raise rule.missing(f"{path}.url")
    if not isinstance(url, str):
        raise rule.wrong_type(f"{path}.url", "a string", url)
    return url, rule.choice(image.get("detail"), f"{path}.detail", rule.PART_DETAILS)
