"""What the head of an answer says: whether it is the image, which part, how long it keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, NamedTuple

from proxy.domain.errors import ImageRefused
from proxy.images.errors import refuse

#: Why nothing was fetched: for the log and metrics alone. The client is told one message.
Cause = Literal[
    # on the way
    "blocked",
    "unknown_host",
    "connect",
    "tls",
    "proxy",
    "redirect",
    "timeout",
    # the answer
    "status",
    "encoding",
    "broken",
    # here
    "busy",
    "stopped",
]

#: What stores say of files whose type they were not told.
_UNTYPED: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_PART: Final = re.compile(r"bytes 0-([0-9]{1,9})/([0-9]{1,18}|\*)", re.ASCII)

#: Seconds that an answer without a word about it is kept, and the most that any is.
DEFAULT_LIFETIME: Final = 60.0
MAX_LIFETIME: Final = 3600.0

#: RFC 9111, 5.2: names are case-insensitive, values may be quoted.
_DIRECTIVE: Final = re.compile(r'([a-z0-9-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,]*)))?', re.IGNORECASE)
#: Kept by nobody, not by a cache that many share, or not without asking again.
_UNKEPT: Final = frozenset({"no-store", "private", "no-cache"})
_SECONDS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


def unreachable(cause: Cause) -> ImageRefused:
    """The one answer to whatever goes wrong on the way; only `cause` tells what it was."""
    error = refuse(
        "unreachable",
        "the image could not be fetched; check that its URL is public and answers with the image",
    )
    error.cause = cause
    return error


def too_large(max_bytes: int) -> ImageRefused:
    return refuse(
        "too_large",
        f"the image behind the URL is too large; at most {max_bytes} bytes are allowed",
    )


def check_type(headers: Mapping[str, str]) -> None:
    """Raises ImageRefused for a body that is encoded, or said to be no image.

    Which image it is, its bytes tell: hosts are often wrong about that.
    """
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise unreachable("encoding")
    declared = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared not in _UNTYPED and not declared.startswith("image/"):
        raise refuse("media_type", "the image URL's host declares something else than an image")


class Part(NamedTuple):
    """The first bytes of a whole, in bytes; `total` is None where the host does not tell."""

    length: int
    total: int | None


def first_part(headers: Mapping[str, str], asked: int) -> Part | None:
    """The part that a 206 holds, if it is of the first `asked` bytes (RFC 9110, 14.4)."""
    match = _PART.fullmatch(headers.get("Content-Range", ""))
    if match is None:
        return None
    length = int(match[1]) + 1
    total = None if match[2] == "*" else int(match[2])
    fits = length <= asked and (total is None or length <= total)
    return Part(length, total) if fits else None


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds, 0 to an hour, that an answer with these headers may be kept.

    Header names are matched as the mapping does. Source: RFC 9111, 4.2.1 and 5.2.2, for a
    shared cache: s-maxage before max-age before Expires, less Age.
    """
    found = {
        name.lower(): quoted or plain
        for name, quoted, plain in _DIRECTIVE.findall(headers.get("Cache-Control", ""))
    }
    if found.keys() & _UNKEPT or headers.get("Vary", "").strip() == "*":
        return 0.0
    for name in ("s-maxage", "max-age"):
        if name in found:
            seconds = _seconds(found[name])
            break
    else:
        if "Expires" not in headers:
            return DEFAULT_LIFETIME
        expires, date = (_date(headers.get(name, "")) for name in ("Expires", "Date"))
        seconds = (expires - date).total_seconds() if expires and date else 0.0
    return min(max(seconds - _seconds(headers.get("Age", "0")), 0.0), MAX_LIFETIME)


def _seconds(text: str) -> float:
    """0 for what is no number: such an answer is stale."""
    return float(text) if _SECONDS.fullmatch(text) else 0.0


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
