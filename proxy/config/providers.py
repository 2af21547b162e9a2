"""A provider's defaults, and whether its base URL and version can be those of its kind.

A request to a wrong path is answered by whoever has that host, in words that help nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from proxy.images.urls import is_inner
from proxy.providers.azure_urls import DEPLOYMENTS, V1, better_place
from proxy.providers.quirks import NONE, QUIRKS, quirks_at
from proxy.providers.registry import KINDS

from .problems import Path, one_of

if TYPE_CHECKING:
    from .schema import Config

#: What clients add to a base URL.
_ENDPOINTS: Final = ("/chat/completions", "/v1/messages", "/messages")

Provider = Mapping[str, object]
Found = Iterator[tuple[Path, str]]


def check_kind(kind: str) -> str:
    """Raise ValueError for what is in no row of the registry."""
    if kind not in KINDS:
        raise ValueError(f"must be {one_of(list(KINDS))}")
    return kind


def check_quirks(name: str) -> str:
    """Raise ValueError for what has no row in the table."""
    if name not in QUIRKS:
        raise ValueError(f"must be {one_of(list(QUIRKS))}")
    return name


def default_quirks(data: dict[str, Any]) -> Any:
    """Those of the server that its host names."""
    return quirks_at(str(data.get("base_url", ""))) if data.get("kind") == "openai" else NONE


def default_image_urls(data: dict[str, Any]) -> Literal["forward", "inline"]:
    """A provider that is not public fetches nothing for a client, and some cannot."""
    forwards = QUIRKS[data.get("quirks", NONE)].links
    return "forward" if forwards and not is_inner(str(data.get("base_url", ""))) else "inline"


def find_wrong(provider: Provider) -> Found:
    """What is wrong with a provider as it was written: the key at fault, and a message."""
    kind, base_url = provider.get("kind") or "openai", provider.get("base_url")
    if kind != "azure" and provider.get("api_version"):
        yield ("api_version",), "is for kind: azure alone"
    if kind != "openai" and provider.get("quirks") not in (None, NONE):
        yield ("quirks",), "are those of servers of kind: openai"
    if isinstance(base_url, str):
        base_url = base_url.rstrip("/")
        try:
            yield from _PLACES.get(str(kind), _other)(base_url, provider)
        except ValueError:
            return  # no URL, which is told elsewhere


def _openai(base_url: str, provider: Provider) -> Found:
    if DEPLOYMENTS in base_url:
        yield ("base_url",), f"is Azure's; write kind: azure, {better_place(base_url)}"
        return
    yield from _other(base_url, provider)
    row = QUIRKS[quirks_at(base_url)]
    parts = urlsplit(base_url)
    known = row.host and provider.get("quirks") != NONE and not base_url.endswith(_ENDPOINTS)
    if known and parts.path != row.path:
        yield (
            ("base_url",),
            f"{parts.hostname} serves its API below {row.path}; did you mean "
            f"'{parts.scheme}://{parts.netloc}{row.path}'? (quirks: none if not)",
        )


def _azure(base_url: str, provider: Provider) -> Found:
    meant = better_place(base_url)
    if meant is not None:
        yield ("base_url",), f"has too much in its path; write {meant}"
    elif provider.get("api_version") and base_url.endswith(V1):
        yield (
            ("api_version",),
            f"the v1 API has no version: leave it out, or {V1} in base_url",
        )


def _other(base_url: str, provider: Provider) -> Found:
    for endpoint in _ENDPOINTS:
        if base_url.endswith(endpoint):
            meant = base_url.removesuffix(endpoint)
            yield ("base_url",), f"is that of one endpoint; did you mean '{meant}'?"
            return


_PLACES: Final[Mapping[str, Callable[[str, Provider], Found]]] = {
    "openai": _openai,
    "azure": _azure,
}


def doubtful(config: Config) -> list[str]:
    """What of a right config may not be what was meant."""
    return [
        f"providers.{name}.base_url has no path; most servers of kind: openai answer below /v1, "
        f"as in '{provider.base_url}/v1'"
        for name, provider in config.providers.items()
        if provider.kind == "openai" and not urlsplit(provider.base_url).path
    ]
