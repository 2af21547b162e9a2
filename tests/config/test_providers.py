"""Providers: what follows from an address, and what an address cannot be."""

from __future__ import annotations

import pytest

from proxy.config import doubtful
from proxy.providers.quirks import QUIRKS, Quirks, quirks_at
from proxy.providers.registry import KINDS

from .samples import SMALL, found, read

BASE = "https://api.openai.com/v1"
AZURE = "https://r.openai.azure.com"


def provider(base_url: str, **more: str) -> str:
    """The small config with another provider."""
    extra = "".join(f", {name}: {value}" for name, value in more.items())
    return SMALL.replace(BASE, f'"{base_url}"{extra}')


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    """The kinds that a config can name are those of the registry."""
    assert read(provider("https://r.example", kind=kind)).providers["openai"].kind == kind


def test_a_kind_that_nobody_knows() -> None:
    """Of a kind that is in no row the message names all that are."""
    assert found(provider(BASE, kind="opanai")) == {
        "providers.openai.kind": "must be 'openai', 'azure' or 'anthropic'"
    }


def test_quirks_that_nobody_knows() -> None:
    """Of quirks that are in no row the message names all that are."""
    assert found(provider(BASE, quirks="olama")) == {
        "providers.openai.quirks": "must be 'none', 'openai', 'gemini', 'mistral', 'groq', "
        "'openrouter' or 'ollama'"
    }


@pytest.mark.parametrize("row", [row for row in QUIRKS.values() if row.host])
def test_a_servers_own_address_is_right(row: Quirks) -> None:
    """The address in the vendor's documentation has the server's quirks, and no fault."""
    base_url = f"https://{row.host}{row.path}"
    told = read(provider(base_url)).providers["openai"]
    assert QUIRKS[told.quirks] is row
    assert told.image_urls == ("forward" if row.links else "inline")


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://API.Mistral.AI./v1", "mistral"),
        ("https://api.mistral.ai.evil.example/v1", "none"),
        ("https://notopenrouter.ai/v1", "none"),
        ("http://127.0.0.1:11434/v1", "none"),
        ("https://[::1/v1", "none"),
    ],
)
def test_quirks_are_the_hosts(base_url: str, name: str) -> None:
    """A server is known by its whole host or one below it, and by nothing else."""
    assert quirks_at(base_url) == name


def test_the_config_says_whose_quirks() -> None:
    """Behind another host the config names the server; at its own it can say there are none."""
    behind = read(provider("https://gw.example/m/v1", quirks="gemini")).providers["openai"]
    assert (behind.quirks, behind.image_urls) == ("gemini", "inline")
    own = read(provider("https://api.mistral.ai/v2", quirks="none")).providers["openai"]
    assert own.quirks == "none"


def test_another_kind_has_no_quirks() -> None:
    """Quirks are those of servers that speak as OpenAI does."""
    azure = read(provider(AZURE, kind="azure")).providers["openai"]
    assert azure.quirks == "none"
    told = found(provider(AZURE, kind="azure", quirks="mistral"))
    assert told == {"providers.openai.quirks": "are those of servers of kind: openai"}


@pytest.mark.parametrize(
    ("base_url", "meant"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("https://api.groq.com/v1", "https://api.groq.com/openai/v1"),
        ("https://openrouter.ai/v1", "https://openrouter.ai/api/v1"),
        (
            "https://generativelanguage.googleapis.com/v1beta",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8000/v1/chat/completions/", "http://127.0.0.1:8000/v1"),
    ],
)
def test_the_right_address_is_suggested(base_url: str, meant: str) -> None:
    """A base URL that a known server has not, or with too much, is refused with the right one."""
    told = found(provider(base_url))
    assert set(told) == {"providers.openai.base_url"}
    assert f"did you mean '{meant}'?" in told["providers.openai.base_url"]


@pytest.mark.parametrize("path", ["/v1/messages", "/messages/", "/chat/completions"])
def test_an_endpoint_is_no_base(path: str) -> None:
    """An address of Anthropic's with an endpoint's path is refused with the one that was meant."""
    told = found(provider(f"https://api.anthropic.com{path}", kind="anthropic"))
    assert "did you mean 'https://api.anthropic.com'?" in told["providers.openai.base_url"]
    assert set(told) == {"providers.openai.base_url"}
    for base_url in ("https://api.anthropic.com", "https://api.anthropic.com/v1"):
        read(provider(base_url, kind="anthropic"))


@pytest.mark.parametrize(
    ("base_url", "written"),
    [
        (f"{AZURE}/openai", f"base_url: {AZURE}"),
        (f"{AZURE}/v1", f"base_url: {AZURE}"),
        (f"{AZURE}/openai/v1/chat/completions", f"base_url: {AZURE}"),
        (
            f"{AZURE}/openai/deployments/my-4o/chat/completions?api-version=2024-10-21",
            f"base_url: {AZURE}, api_version: 2024-10-21, 'my-4o' as the model of a target",
        ),
        (
            f"{AZURE}/openai/deployments/my-4o",
            f"base_url: {AZURE}, 'my-4o' as the model of a target",
        ),
        (f"{AZURE}/openai/v1/?api-version=preview", f"base_url: {AZURE}"),
        (
            f"{AZURE}?api-version=2025-04-01-preview",
            f"base_url: {AZURE}, api_version: 2025-04-01-preview",
        ),
        ("https://apim.example/team/openai", "base_url: https://apim.example/team"),
    ],
)
def test_what_azure_shows_is_taken_apart(base_url: str, written: str) -> None:
    """An address as Azure's portal has it is refused with what to write of it, where."""
    told = found(provider(base_url, kind="azure"))
    assert set(told) == {"providers.openai.base_url"}
    assert told["providers.openai.base_url"].endswith(f"write {written}")


def test_azures_address_in_another_kind() -> None:
    """A deployment's address of a provider of kind openai is told to be Azure's."""
    told = found(provider(f"{AZURE}/openai/deployments/d/chat/completions"))
    assert told["providers.openai.base_url"].startswith("is Azure's; write kind: azure, base_url:")


@pytest.mark.parametrize("base_url", [AZURE, f"{AZURE}/", f"{AZURE}/openai/v1/"])
def test_azure_v1(base_url: str) -> None:
    """Azure's v1 API needs no version, and its path may be written or not."""
    assert read(provider(base_url, kind="azure")).providers["openai"].api_version == ""


@pytest.mark.parametrize("version", ["2024-10-21", "2024-08-01-preview", "2025-04-01-preview"])
def test_a_dated_version(version: str) -> None:
    """A date, unquoted as one writes it, is a version of Azure's."""
    config = read(provider(AZURE, kind="azure", api_version=version))
    assert config.providers["openai"].api_version == version


@pytest.mark.parametrize(
    ("base_url", "more", "message"),
    [
        (AZURE, {"kind": "azure", "api_version": "v1"}, "must be a date such as 2024-10-21"),
        (AZURE, {"kind": "azure", "api_version": "2024-10"}, "must be a date such as"),
        (AZURE, {"kind": "azure", "api_version": "2024-06-01"}, "write 2024-10-21 or a later"),
        (BASE, {"api_version": "2024-10-21"}, "is for kind: azure alone"),
        (
            f"{AZURE}/openai/v1",
            {"kind": "azure", "api_version": "2024-10-21"},
            "the v1 API has no version",
        ),
    ],
)
def test_a_wrong_version(base_url: str, more: dict[str, str], message: str) -> None:
    """A version that is none, tells no usage or belongs elsewhere is refused, and mended."""
    told = found(provider(base_url, **more))
    assert set(told) == {"providers.openai.api_version"}
    assert message in told["providers.openai.api_version"]


@pytest.mark.parametrize("key", ["sk-1 2", "sk-ä", "sk-\\u2013", '"sk-1\\n"'])
@pytest.mark.parametrize("written", ["api_key: {}", "api_keys: [sk-good, {}]"])
def test_a_key_that_no_header_carries(key: str, written: str) -> None:
    """An API key with a space, a line end or a letter beyond ASCII is refused by name, unshown."""
    text = SMALL.replace("api_key: sk-test", written.format(f'"{key.strip(chr(34))}"'))
    told = found(text)
    assert set(told) == {f"providers.openai.{'api_keys[1]' if 's:' in written else 'api_key'}"}
    (message,) = told.values()
    assert message.startswith("holds a space, a line end or another character")
    assert "sk-" not in message


def test_a_bare_host_is_doubtful() -> None:
    """A server that nobody knows may answer below /v1, which the check says."""
    assert doubtful(read(SMALL)) == []
    (told,) = doubtful(read(provider("http://127.0.0.1:11434")))
    assert told.startswith("providers.openai.base_url has no path")
    assert "'http://127.0.0.1:11434/v1'" in told
