"""Lists of models, in the shape that each vendor documents."""

from __future__ import annotations

import pytest
from hypothesis import given

from proxy.providers.listing import Listed, read_listing, unlisted
from tests.images.mutants import mutants
from tests.scripted.vendors import FIXTURES, fixture

#: What each vendor lists, as a target may name it.
NAMES = {
    "openai": ("gpt-4o", "gpt-4o-2024-11-20"),
    "azure": ("gpt-4o-2024-11-20",),
    "anthropic": ("claude-sonnet-4-5-20250929",),
    "gemini": ("gemini-2.5-flash", "models/gemini-2.5-flash"),
    "mistral": ("pixtral-12b-2409",),
    "groq": ("meta-llama/llama-4-scout-17b-16e-instruct",),
    "openrouter": ("qwen/qwen2.5-vl-72b-instruct", "qwen/qwen2.5-vl-72b-instruct:nitro"),
    "vllm": ("Qwen/Qwen2.5-VL-7B-Instruct",),
    "ollama": ("llama3.2-vision", "llama3.2-vision:latest"),
}
LISTS = [path.read_bytes() for path in sorted(FIXTURES.glob("*/models.json"))]


@pytest.mark.parametrize("vendor", NAMES)
def test_a_vendors_list(vendor: str) -> None:
    """What a vendor lists is found, by each name that it takes, and nothing else is."""
    listed = read_listing(fixture(vendor, "models.json"))
    assert listed is not None
    assert listed.whole
    assert unlisted(listed, NAMES[vendor]) == ()
    assert unlisted(listed, ["no-such", *NAMES[vendor]]) == ("no-such",)


def test_a_bare_list() -> None:
    """Together has its models in a list without an object around it."""
    assert read_listing(b'[{"id": "a"}, {"id": "b"}]') == Listed(frozenset("ab"))


def test_nothing_pulled() -> None:
    """Ollama before its first model has none, and that is an answer."""
    assert read_listing(b'{"object":"list","data":null}') == Listed(frozenset())


def test_another_tag() -> None:
    """A model under another tag is another model."""
    listed = Listed(frozenset({"llava:7b"}))
    assert unlisted(listed, ["llava:13b", "llava"]) == ("llava", "llava:13b")


def test_a_part() -> None:
    """Of a list that is not whole nothing is known to be missing."""
    assert unlisted(Listed(frozenset(), whole=False), ["a"]) == ()


@given(mutants(LISTS))
def test_a_spoilt_list(came: bytes) -> None:
    """Whatever comes is a list or none."""
    listed = read_listing(came)
    assert listed is None or all(isinstance(name, str) for name in listed.names)
