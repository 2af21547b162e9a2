"""The kinds of provider, by the name that the config has for each. Pure.

A new one is one file beside this, its fixtures, and one row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.providers import openai
from proxy.providers.kind import Kind

KINDS: Final[Mapping[str, Kind]] = {
    "openai": openai.KIND,
}


def kind_at(name: str, base_url: str, api_version: str = "") -> Kind:
    """The kind of that name as it is spoken at a base URL. Raises KeyError."""
    kind = KINDS[name]
    return kind.at(base_url, api_version) if kind.at else kind
