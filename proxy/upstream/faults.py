"""Why a provider did not answer as it should, in words for who runs the gateway.

None of a provider's own words is repeated but where it redirects to, if that is plain.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from proxy.domain.errors import AnswerTooLarge, UpstreamFailed, UpstreamTimeout
from proxy.upstream.call import Timeouts
from proxy.upstream.framing import BadAnswer

_HAS_VERSION: Final = re.compile(r"/v\d|api-version=")
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,200}")


def unanswered(error: UpstreamFailed, limits: Timeouts, *, begun: bool) -> str:
    """Why there is no answer, or (where it has `begun`) no whole one."""
    if begun:
        for kind, words in _BROKEN:
            if isinstance(error, kind):
                return words
    if isinstance(error, UpstreamTimeout):
        return f"no answer within {limits.first_byte:g} s"
    causes = list(_causes(error))[::-1]  # the first of them says most
    for kinds, say in _CAUSES:
        for cause in causes:
            if isinstance(cause, kinds):
                return say(cause, limits)
    return "closes the connection without an answer"


def refused(status: int, url: str, location: str | None, secret: str | None) -> str:
    """What a status means that is not a list's; 200 is that of no list."""
    place = url.partition("?")[0]
    if 300 <= status < 400:
        return f"redirects{_to(location, secret)}, which is not followed ({status})"
    if status in (200, 404):
        meant = "is base_url right?" if _HAS_VERSION.search(url) else "base_url without /v1?"
        return f"has no list of models at {place} ({status}): {meant}"
    words = _STATUSES.get(status, "fails" if status >= 500 else "refuses to list its models")
    return f"{words} ({status})"


def _to(location: str | None, secret: str | None) -> str:
    """Without the query, which may hold anything."""
    place = (location or "").partition("?")[0]
    plain = _PLAIN.fullmatch(place) and "@" not in place
    return f" to {place}" if plain and not (secret and secret in place) else ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _tls(error: ssl.SSLError) -> str:
    if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return "speaks no TLS there: is it http://?"
    return f"TLS fails: {(error.reason or 'broken off').replace('_', ' ').lower()}"


def _untrusted(error: ssl.SSLCertVerificationError) -> str:
    why = (error.verify_message or "unknown reason").rstrip(".")
    return (
        f"its certificate is not trusted: {why}. An authority of your own goes into SSL_CERT_FILE"
    )


_STATUSES: Final[Mapping[int, str]] = {
    401: "refuses the key",
    403: "refuses the key, or what it may do",
    402: "has no credit left for the key",
    407: "a proxy on the way wants to be logged in to",
    429: "limits the key, or has no credit left for it",
}
_BROKEN: Final = (
    (AnswerTooLarge, "its list of models has no end"),
    (UpstreamTimeout, "begins to answer, and does not come to an end in time"),
    (UpstreamFailed, "begins to answer, and breaks off"),
)
#: The first that is among an error's causes.
_CAUSES: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any, Timeouts], str]], ...]] = (
    (
        (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        lambda e, t: "the proxy that the environment names does not lead there",
    ),
    (ssl.SSLCertVerificationError, lambda e, t: _untrusted(e)),
    (ssl.SSLError, lambda e, t: _tls(e)),
    (socket.gaierror, lambda e, t: "its name is not known (DNS): is base_url right?"),
    (ConnectionRefusedError, lambda e, t: "refuses the connection: does it run there?"),
    (TimeoutError, lambda e, t: f"no connection within {min(t.connect, t.first_byte):g} s"),
    (
        (BadAnswer, HttpProcessingError, aiohttp.ClientResponseError),
        lambda e, t: "answers, but not in HTTP: is it https://, or another port?",
    ),
    (ValueError, lambda e, t: "has no host of that name: is base_url right?"),
    (ConnectionError, lambda e, t: "closes the connection without an answer"),
    (aiohttp.ServerDisconnectedError, lambda e, t: "closes the connection without an answer"),
    (OSError, lambda e, t: f"cannot be reached: {e.strerror or type(e).__name__}"),
)
