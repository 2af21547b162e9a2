"""The kinds of provider, by the name that the config has for each. Pure.

A new one is one file beside this, its fixtures, and one row here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.providers import anthropic, azure, openai
from proxy.providers.kind import Kind, Variant

KINDS: Final[Mapping[str, Kind]] = {
    "openai": openai.KIND,
    "azure": azure.KIND,
    "anthropic": anthropic.KIND,
}


def kind_of(name: str, variant: Variant) -> Kind:
    """The kind of that name as one provider speaks it. Raises KeyError."""
    kind = KINDS[name]
    return kind.variant(variant) if kind.variant else kind
