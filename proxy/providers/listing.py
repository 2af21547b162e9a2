"""What is read of the lists that providers have of their models. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec


class Listed(NamedTuple):
    """The names that a list has; `whole`: there are no others."""

    names: frozenset[str]
    whole: bool = True


class _Model(msgspec.Struct):
    id: str = ""


class _Page(msgspec.Struct):
    data: list[_Model] | None  # Ollama has null for none
    has_more: bool = False  # Anthropic


_read = msgspec.json.Decoder(_Page | list[_Model]).decode

#: What Gemini's names begin with in its list, and there alone.
_PREFIX: Final = "models/"


def read_listing(body: bytes) -> Listed | None:
    """A list as OpenAI, Anthropic or Together have it; None for what is none.

    Source: https://platform.openai.com/docs/api-reference/models/list,
    https://platform.claude.com/docs/en/api/models-list, https://docs.together.ai/reference/models
    """
    try:
        page = _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    models = page if isinstance(page, list) else page.data or []
    names = frozenset(model.id.removeprefix(_PREFIX) for model in models)
    return Listed(names, isinstance(page, list) or not page.has_more)


def unlisted(listed: Listed, wanted: Iterable[str]) -> tuple[str, ...]:
    """Of these models those that a list does not have; none where it is not whole.

    What stands behind a colon may be a tag that goes without saying (Ollama's `latest`), or a way
    to be served (OpenRouter's `nitro`).
    """
    if not listed.whole:
        return ()
    return tuple(
        name
        for name in sorted(set(wanted))
        if listed.names.isdisjoint(
            (name.removeprefix(_PREFIX), f"{name}:latest", name.partition(":")[0])
        )
    )
