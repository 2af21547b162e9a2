"""Ordered prefix rules that turn one image URL into another, before it is checked.

`https://assets.corp.example/` is a host, not a run of letters: it matches neither
`https://assets.corp.example.evil/` nor `https://assets.corp.example@evil/`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from yarl import URL

from proxy.images.urls import DEFAULT_PORTS, MAX_URL

_PARTS: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{0,31})://([^/?#\\\x00-\x20\x7f]*)([^\\\x00-\x20\x7f]*)"
)
#: As lenient servers read it: a slash may be encoded, and parameters follow a semicolon.
_DOT_SEGMENT: Final = re.compile(
    r"(?:/|%2f|%5c)(?:\.|%2e){1,2}(?:[/?#;]|%2f|%5c|%3b|$)", re.IGNORECASE
)


class _Parts(NamedTuple):
    scheme: str
    host: str  # "" for a rule about the scheme alone
    port: int | None
    rest: str  # path, query and fragment, from the slash


@dataclass(frozen=True, slots=True)
class RewriteRule:
    """URLs that begin with `source` begin with `target` instead.

    Both are prefixes: a scheme (`http://`), or a scheme, a host and the beginning of a
    path. Raises ValueError if they are not, or would not fit together.
    """

    source: str
    target: str

    def __post_init__(self) -> None:
        source, target = _prefix(self.source), _prefix(self.target)
        if target.scheme not in DEFAULT_PORTS:
            raise ValueError(f"cannot rewrite to {self.target!r}: use http:// or https://")
        if bool(source.host) != bool(target.host):
            raise ValueError(
                f"cannot rewrite {self.source!r} to {self.target!r}: either both name a host "
                "or neither does"
            )
        if source.rest.endswith("/") != target.rest.endswith("/"):
            raise ValueError(
                f"cannot rewrite {self.source!r} to {self.target!r}: either both end in a slash "
                "or neither does"
            )

    @classmethod
    def parse(cls, from_: str, to: str) -> RewriteRule:
        """The rule as the config writes it. Raises ValueError with a message for its author."""
        return cls(from_.strip(), to.strip())


def rewrite(url: str, rules: Sequence[RewriteRule]) -> str:
    """The URL after the first rule that matches, or as it was; then `check_url` it."""
    parts = _split(url) if rules else None
    if parts is None:
        return url
    for rule in rules:
        changed = _apply(parts, _prefix(rule.source), _prefix(rule.target))
        if changed is not None:
            return changed
    return url


def _apply(url: _Parts, source: _Parts, target: _Parts) -> str | None:
    if url.scheme != source.scheme:
        return None
    if not source.host:
        # The old scheme's own port means nothing under the new one.
        port = None if url.port == DEFAULT_PORTS.get(url.scheme) else url.port
        return _join(target._replace(host=url.host, port=port), url.rest)
    if (url.host, url.port) != (source.host, source.port) or not _below(url.rest, source.rest):
        return None
    return _join(target, target.rest + url.rest[len(source.rest) :])


def _below(rest: str, prefix: str) -> bool:
    """Whether a path is the prefix's own or under it, without climbing out of it."""
    if not rest.startswith(prefix):
        return False
    if prefix != "/" and _DOT_SEGMENT.search(rest):
        return False
    return prefix.endswith("/") or rest[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _join(parts: _Parts, rest: str) -> str:
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{parts.host}{port}{rest}"


def _split(url: str) -> _Parts | None:
    """A URL's parts, or None for what no rule should touch: check_url has the last word."""
    match = _PARTS.fullmatch(url) if len(url) <= MAX_URL else None
    if match is None or not match[2] or "@" in match[2]:
        return None
    scheme = match[1].lower()
    try:
        parsed = URL(f"{scheme}://{match[2]}")
        host, explicit = parsed.raw_host or "", parsed.explicit_port
    except ValueError:
        return None
    if match[2].endswith(":") or not match[2].endswith("" if explicit is None else f":{explicit}"):
        return None  # no port, or one that is not written as it should be
    rest = match[3] if match[3].startswith("/") else "/" + match[3]
    port = DEFAULT_PORTS.get(scheme) if explicit is None else explicit
    return _Parts(scheme, f"[{host}]" if ":" in host else host, port, rest)


@lru_cache(maxsize=256)
def _prefix(text: str) -> _Parts:
    match = _PARTS.fullmatch(text)
    if match is not None and not match[2] and not match[3]:
        return _Parts(match[1].lower(), "", None, "")
    parts = _split(text)
    if parts is None or not parts.host or "?" in parts.rest or "#" in parts.rest:
        raise ValueError(
            f"{text!r} is not a URL prefix; write 'http://' or 'https://assets.example.com/path/'"
        )
    return parts
