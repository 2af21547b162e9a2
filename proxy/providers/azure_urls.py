"""Where Azure OpenAI's APIs are: the v1 API, and the dated versions before it. Pure.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (v1) and
https://learn.microsoft.com/azure/ai-foundry/openai/reference (dated versions).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

V1: Final = "/openai/v1"

_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:-preview)?", re.ASCII)

#: The first version that tells a stream's usage, and the one to write instead of an older.
_OLDEST: Final = "2024-08-01"
_STABLE: Final = "2024-10-21"

DEPLOYMENTS: Final = "/openai/deployments"


def url(base_url: str, model: str) -> str:
    """In the v1 API, below a base URL with or without its path; the deployment is in the body."""
    return f"{base_url.removesuffix(V1)}{V1}/chat/completions"


def models_url(base_url: str) -> str:
    """Where the v1 API lists models, not deployments.

    Source: https://learn.microsoft.com/rest/api/microsoft-foundry/azureopenai/models
    """
    return f"{base_url.removesuffix(V1)}{V1}/models"


def dated_models_url(version: str, base_url: str) -> str:
    """Where a dated version does.

    Source: https://learn.microsoft.com/rest/api/azureopenai/models/list
    """
    return f"{base_url}/openai/models?api-version={version}"


def dated_url(version: str, base_url: str, model: str) -> str:
    """In a dated version; the deployment is in the path."""
    deployment = quote(model, safe="")
    return f"{base_url}{DEPLOYMENTS}/{deployment}/chat/completions?api-version={version}"


def check_version(version: str) -> None:
    """Raise ValueError, with what to write instead, for a version that cannot be used."""
    if not _VERSION.fullmatch(version):
        raise ValueError(
            f"must be a date such as {_STABLE} or {_STABLE}-preview; leave it out for the v1 API"
        )
    if version < _OLDEST:
        raise ValueError(f"{version} tells no usage of a stream; write {_STABLE} or a later one")


def better_place(base_url: str) -> str | None:
    """What to write instead of a base URL that has too much in its path, as those have that Azure
    shows for a deployment; None for one that has not.
    """
    parts = urlsplit(base_url)
    root, mark, rest = parts.path.partition(DEPLOYMENTS)
    path = parts.path.rstrip("/")
    if not (
        mark or parts.query or path == "/v1" or path.endswith(("/openai", "/chat/completions"))
    ):
        return None
    root = root.partition("/openai")[0].rstrip("/").removesuffix("/v1")
    told = [f"base_url: {parts.scheme}://{parts.netloc}{root}"]
    if (version := parse_qs(parts.query).get("api-version", [""])[0]) not in ("", "preview", "v1"):
        told.append(f"api_version: {version}")
    if deployment := rest.strip("/").partition("/")[0]:
        told.append(f"'{deployment}' as the model of a target")
    return ", ".join(told)
