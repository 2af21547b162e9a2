"""Messages and their content parts: what each may be made of."""

from __future__ import annotations

from typing import Any, Final

from proxy.domain import parameters as rule
from proxy.domain.errors import BadRequest
from proxy.domain.vocabulary import CACHE_KEYS, IMAGE_KEYS, PARTS, THOUGHTS

#: Messages, parts and calls together: no honest request comes near, and each costs a check.
MOST_PARTS: Final = 10_000

# What most messages, parts and images are made of: then only the values are to be checked, and
# that they are right is seen at once. Of all else the rules further down say what is wrong.
_MESSAGE: Final = frozenset(("role", "content", "name"))
_TEXT: Final = frozenset(("type", "text"))
_IMAGE: Final = frozenset(("type", "image_url"))
_IMAGE_URL: Final = frozenset(IMAGE_KEYS)
_DETAILS: Final = (None, *rule.PART_DETAILS)


def check_list(messages: Any, size: int) -> list[Any]:
    """Raise BadRequest where these are no messages, or too many; the body has `size` bytes."""
    if messages is None:
        raise rule.missing("messages")
    if not isinstance(messages, list):
        raise rule.wrong_type("messages", "a list of messages", messages)
    if not messages:
        raise rule.invalid("messages", "must hold at least one message")
    # Each takes two bytes at least.
    if size > 2 * MOST_PARTS and sum(map(_size, messages)) > MOST_PARTS:
        raise rule.invalid("messages", f"must hold at most {MOST_PARTS} messages and parts")
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


def check_message(message: Any, number: int, allowed: frozenset[str]) -> None:
    """Raise BadRequest for what is wrong with a message, but for its parts."""
    if message.__class__ is dict and _MESSAGE.issuperset(message):
        content = message.get("content")
        said = content.__class__ is str or (content.__class__ is list and content)
        if said and message.get("role") in rule.ROLES:
            return
    path = f"messages[{number}]"
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


def check_part(part: Any, message: int, number: int, allowed: frozenset[str]) -> None:
    """Raise BadRequest for what is wrong with a content part of a message."""
    kind = part.get("type") if part.__class__ is dict else None
    if kind == "text" and _TEXT.issuperset(part) and part.get("text").__class__ is str:
        return
    if kind == "image_url" and _IMAGE.issuperset(part) and _is_plain(part.get("image_url")):
        return
    path = f"messages[{message}].content[{number}]"
    if _part_type(part, path, allowed) == "image_url":
        _check_image(part.get("image_url"), f"{path}.image_url", allowed)


def _is_plain(image: Any) -> bool:
    return (
        image.__class__ is dict
        and _IMAGE_URL.issuperset(image)
        and image.get("url").__class__ is str
        and image.get("detail") in _DETAILS
    )


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


def _check_image(image: Any, path: str, allowed: frozenset[str]) -> None:
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
    rule.choice(image.get("detail"), f"{path}.detail", rule.PART_DETAILS)
