"""Secrets that stand in the file itself, where they get into version control and backups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from .checks import walk
from .yamlfile import read_yaml

_SECRETS: Final = (
    "providers.*.api_key",
    "providers.*.api_keys.*",
    "admin.token",
    "keys.pepper",
    "keys.pepper.*",
)
#: URLs: their password is one.
_URLS: Final = ("store.url", "images.egress_proxy")

_ADVICE: Final = "the secret stands in the file; write ${NAME} or ${file:/run/secrets/name}"

#: `$$` is a dollar; the default of a reference is written in the file, too.
_REFERENCE: Final = re.compile(r"\$\$|\$\{(?:file:[^}]*|[^}:]*)(?::-([^}]*))?\}")


def literal_secrets(path: FilePath, env: Mapping[str, str]) -> list[str]:
    """A warning for each secret of a right configuration that is not `${NAME}` or `${file:}`."""
    text = path.read_text("utf-8-sig")
    document = read_yaml(text, str(path), env)
    written = _written(_tuples(yaml.safe_load(text)))
    return [str(document.problem(where, _ADVICE)) for where, left in written if left]


def _written(data: object) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each secret's place, and what of it stands there."""
    for pattern in _SECRETS:
        for where, value in walk(data, pattern):
            yield where, _left(value)
    for pattern in _URLS:
        for where, value in walk(data, pattern):
            yield where, _password(_left(value))


def _left(value: object) -> str:
    """The text without its references."""
    if value is None or isinstance(value, tuple):
        return ""
    return _REFERENCE.sub(lambda m: m[1] or "", str(value)).strip(", ")


def _password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    user = parts.netloc.rpartition("@")[0]
    return unquote(user.partition(":")[2]) or "".join(parse_qs(parts.query).get("password", ()))


def _tuples(value: object) -> object:
    """As `walk` wants it."""
    if isinstance(value, dict):
        return {str(key): _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
