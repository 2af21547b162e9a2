"""What is not served of the requests that a parser lets through, whatever their route.

They are HTTP, but two servers on a way may take them for different things, or they ask for what
no gateway should do. An offer of another protocol (`upgrade`) is not among them: a server may
pass it over (RFC 9110 section 7.8), and some clients make it with every first request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from proxy.domain.errors import BadRequest, GatewayError, MethodNotAllowed

#: The Connection headers that nearly all send.
_USUAL: Final = (["keep-alive"], ["close"], ["Keep-Alive"])
_NONE: Final = _USUAL[0]

#: What is read here of a head. It is said to whoever is asked, so no hop may take it away.
_END_TO_END: Final = frozenset(
    (
        *("authorization", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("traceparent", "tracestate", "x-forwarded-for", "x-request-id"),
    )
)

#: What is odd in these is another's to judge: no key, a client of no address, and a trace that is
#: begun anew (W3C Trace Context: no request fails for it).
_JUDGED: Final = frozenset(("authorization", "traceparent", "tracestate", "x-forwarded-for"))


class Malformed(BadRequest):
    """What is no HTTP, or may be taken for two things."""

    reason = "malformed"


class TooSlow(BadRequest):
    """A client that takes too long over its request (RFC 9110 section 15.5.9)."""

    status = 408
    reason = "slow_client"


def is_usual(http: web.Request) -> bool:
    """Whether a head of ASCII, for a known path, is beyond a doubt; else `fault_of` tells."""
    headers = http.headers
    return (
        hdrs.TRANSFER_ENCODING not in headers
        and headers.getall(hdrs.CONNECTION, _NONE) in _USUAL
        and http.version is HttpVersion11
    )


def fault_of(http: web.BaseRequest) -> GatewayError | None:
    """Why a request is not served, by its head."""
    for rule in _RULES:
        found = rule(http)
        if found is not None:
            return found
    return None


def _version(http: web.BaseRequest) -> GatewayError | None:
    """The parser knows others by name (RFC 9112 section 2.3)."""
    if http.version in (HttpVersion10, HttpVersion11):
        return None
    http._version = HttpVersion10  # in which the answer is written
    http._cache.pop("version", None)
    return Malformed("The request's version of HTTP is not served; HTTP/1.1 is.")


def _method(http: web.BaseRequest) -> GatewayError | None:
    if http.method not in (hdrs.METH_CONNECT, hdrs.METH_TRACE):
        return None
    return MethodNotAllowed(
        f"{http.method} is not served on any path.", headers={"allow": "GET, HEAD, POST"}
    )


def _target(http: web.BaseRequest) -> GatewayError | None:
    """RFC 9112 section 3.2: the absolute form is for forward proxies, a fragment for nobody."""
    target = http.raw_path
    if target == "*" or (target.startswith("/") and "#" not in target):
        return None
    return Malformed("The request's target must be a path, such as /v1/chat/completions.")


def _coding(http: web.BaseRequest) -> GatewayError | None:
    """RFC 9112 section 6.1: two servers may see such a body end in two places."""
    codings = [coding.lower() for coding in http.headers.getall(hdrs.TRANSFER_ENCODING, ())]
    if not codings or (codings == ["chunked"] and http.version == HttpVersion11):
        return None
    return Malformed("Of the transfer codings, only 'chunked' on HTTP/1.1 is accepted.")


def _trailer(http: web.BaseRequest) -> GatewayError | None:
    """RFC 9110 section 6.5.1. One that was not announced is nobody's (server.py)."""
    if hdrs.TRAILER not in http.headers:
        return None
    return Malformed("Headers that follow a body ('Trailer') are not accepted.")


def _connection(http: web.BaseRequest) -> GatewayError | None:
    """RFC 9110 section 7.6.1: what is named is for one hop."""
    for value in http.headers.getall(hdrs.CONNECTION, ()):
        for option in value.split(","):
            name = option.strip().lower()
            if name in _END_TO_END:
                return Malformed(f"'Connection' must not name the header '{name}'.")
    return None


def _text(http: web.BaseRequest) -> GatewayError | None:
    """RFC 9110 section 5.5: what such bytes mean, everybody decides alone."""
    for name, value in http.headers.items():
        if not value.isascii() and name.lower() not in _JUDGED:
            return Malformed(f"The header '{name[:64]}' holds more than ASCII.")
    return None


_RULES: Final[tuple[Callable[[web.BaseRequest], GatewayError | None], ...]] = (
    *(_version, _method, _target, _coding, _trailer, _connection, _text),
)
