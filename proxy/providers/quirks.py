"""Where servers that speak as OpenAI does differ from it: one row each, and only what matters.

What is taken from everybody has no field: usage in each chunk or in the last one with a choice
(Gemini, Mistral, vLLM), in `x_groq` (Groq), comments (OpenRouter) by domain/meter.py; errors in
lists, without keys, with numbers for codes or details for messages by answers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Quirks:
    """One server's. `host`: by which it is known, with all below it; `path`: its base URL's.

    `links`: it fetches images. `stream_options`: it takes them; one that does not tells its usage
    unasked. `image_limits`: whose row of images/kinds.py is its own, "" where none is known.
    """

    host: str = ""
    path: str = "/v1"
    links: bool = True
    stream_options: bool = True
    image_limits: str = ""


NONE: Final = "none"

#: By the word that the config has for each.
QUIRKS: Final[Mapping[str, Quirks]] = {
    NONE: Quirks(),
    # https://platform.openai.com/docs/api-reference
    "openai": Quirks("api.openai.com", image_limits="openai"),
    # Images as data alone. https://ai.google.dev/gemini-api/docs/openai
    "gemini": Quirks("generativelanguage.googleapis.com", "/v1beta/openai", links=False),
    # Unknown fields are a 422. https://docs.mistral.ai/api/
    "mistral": Quirks("api.mistral.ai", stream_options=False),
    # https://console.groq.com/docs/openai
    "groq": Quirks("api.groq.com", "/openai/v1"),
    # https://openrouter.ai/docs/api-reference/overview
    "openrouter": Quirks("openrouter.ai", "/api/v1"),
    # Images as base64 alone. https://docs.ollama.com/api/openai-compatibility
    "ollama": Quirks("ollama.com", links=False),
}


def quirks_at(base_url: str) -> str:
    """The name of the row that a base URL's host has, else "none"."""
    try:
        host = (urlsplit(base_url).hostname or "").removesuffix(".")
    except ValueError:
        return NONE
    for name, row in QUIRKS.items():
        if row.host and (host == row.host or host.endswith("." + row.host)):
            return name
    return NONE
