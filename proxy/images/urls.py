"""Image URLs: every rule that can be judged before anything is resolved.

A URL is split once by RFC 3986's own grammar, what parsers disagree about is refused,
and the host is judged as yarl maps it (full-width digits, ideographic dots, circled
letters), because that is the host that would be dialled.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from yarl import URL

from proxy.domain.errors import ImageRefused
from proxy.images.addresses import Address, is_public
from proxy.images.errors import refuse
from proxy.images.hosts import HOST_NAME, MAX_HOST, compile_patterns, matches_host

MAX_URL: Final = 8192
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

#: Names that only mean something inside a network: RFC 6761, 6762 (appendix G), 8375,
#: 7686, ICANN's .internal and its name-collision list, and what cluster DNS serves.
LOCAL_SUFFIXES: Final = frozenset(
    {
        *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp"),
        *("home", "lan", "arpa", "onion", "svc", "consul"),
    }
)

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):")
_AUTHORITY: Final = re.compile(r"//([^/?#]*)")
_HOST_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(.*))?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
#: What yarl would quote in a path or query; a URL without it is passed on as written.
_QUOTABLE: Final = re.compile(r'["<>^`{|}]')
#: A host whose last label is a number is an IPv4 address to some parser (WHATWG URL,
#: "ends in a number"; inet_aton).
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
#: What nearly all links are: a host in lower case that may be dialled as a public name, whose last
#: label begins with a letter, so that it is no address to any parser, and a path and query that are
#: passed on as written.
_USUAL: Final = re.compile(
    r"https://((?:[a-z0-9_-]{1,63}+\.)++"
    rf"(?!(?:{'|'.join(sorted(LOCAL_SUFFIXES))})/)[a-z][a-z0-9-]{{0,62}}+)"
    r"/[!$-;=@-\[\]_a-z~]*+(?:\?[!$-;=?-\[\]_a-z~]++)?+"
)


@dataclass(frozen=True, slots=True)
class UrlRules:
    """Which URLs may be used. Host patterns are those of `proxy.images.hosts`.

    `deny` wins over everything; `internal` hosts need be neither public nor allowed, and
    are for images that the gateway fetches itself. Raises ValueError for a bad pattern.
    """

    schemes: frozenset[str]
    ports: frozenset[int]
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for patterns in (self.allow, self.deny, self.internal):
            compile_patterns(patterns)

    @property
    def outer(self) -> UrlRules:
        """The same for an image that the gateway does not fetch for itself: nothing internal."""
        return replace(self, internal=()) if self.internal else self


def check_url(url: str, rules: UrlRules) -> URL:
    """Judge an image URL; what is returned is what may be fetched or forwarded.

    Its path and query are as they were written where they need no quoting, so that a
    signature over them holds. Raises ImageRefused; a reason has one message, whatever the
    URL is, and none holds a part of it.
    """
    scheme = _check_scheme(url, rules)
    _check_text(url)
    authority = _AUTHORITY.match(url, len(scheme) + 1)
    if authority is None:
        raise _not_a_url(rules)
    bracketed = _check_authority(authority[1], scheme, rules)
    try:
        parsed = URL(url)
    except ValueError:
        raise _not_a_host() from None
    _check_host(parsed.raw_host or "", bracketed, rules)
    return _as_written(url[authority.end() :], parsed)


class LinkCheck:
    """`check_url` under one set of rules, for many links; `takes_data`: data: URIs are allowed."""

    __slots__ = ("_allow", "_any_host", "_deny", "_https", "_rules", "takes_data")

    def __init__(self, rules: UrlRules) -> None:
        self._rules = rules
        self._https = "https" in rules.schemes and 443 in rules.ports
        self._deny = compile_patterns(rules.deny)
        self._allow = compile_patterns(rules.allow)
        self._any_host = self._allow.anything and not rules.deny
        self.takes_data = "data" in rules.schemes

    def is_usual(self, url: str) -> bool:
        """Whether a link is plainly fine, and goes on as it was written."""
        usual = _USUAL.fullmatch(url) if self._https and len(url) <= MAX_URL else None
        if usual is None:
            return False
        host = usual[1]
        return len(host) <= MAX_HOST and (
            self._any_host or (self._allow.match_name(host) and not self._deny.match_name(host))
        )

    def check(self, url: str) -> str:
        """The link as it may be forwarded; `check_url` judges what is not plainly fine."""
        return url if self.is_usual(url) else str(check_url(url, self._rules))


def check_redirect(base: URL, location: str, rules: UrlRules) -> URL:
    """Judge where a redirect leads: the whole policy again, and never https to http.

    Raises ImageRefused, also for a Location that is missing or empty.
    """
    if not location:
        raise refuse("redirect", "the image's host answered with a redirect to nowhere")
    _check_text(location)
    if _SCHEME.match(location) is None:
        try:
            location = str(base.join(URL(location)))
        except (ValueError, IndexError):  # the second for //[::1]@
            raise refuse("redirect", "the image's host answered with a bad redirect") from None
    target = check_url(location, rules)
    if base.scheme == "https" and target.scheme != "https":
        raise refuse("redirect", "the image's host redirects from https to http; link to https")
    return target


def _check_scheme(url: str, rules: UrlRules) -> str:
    head = _SCHEME.match(url) if isinstance(url, str) else None
    if head is None:
        raise _not_a_url(rules)
    scheme = head[1].lower()
    if scheme not in rules.schemes & DEFAULT_PORTS.keys():
        raise refuse("scheme", f"the image URL's scheme is not allowed; {_allowed(rules.schemes)}")
    return scheme


def _check_text(url: str) -> None:
    if len(url) > MAX_URL:
        raise refuse(
            "too_long",
            f"the image URL is too long; at most {MAX_URL} characters are allowed",
        )
    # Separators, control and format characters (bidi, zero-width), surrogates.
    if _UNSAFE.search(url) or not (
        url.isascii() or all(unicodedata.category(char)[0] not in "ZC" for char in url)
    ):
        raise refuse(
            "characters",
            "the image URL holds a space, a backslash, a control or an invisible character; "
            "percent-encode it",
        )


def _check_authority(authority: str, scheme: str, rules: UrlRules) -> bool:
    """Whether the host is in brackets."""
    if "@" in authority:
        raise refuse("userinfo", "the image URL must not hold a user name or password")
    match = _HOST_PORT.fullmatch(authority)
    if match is None or not match[1] or "%" in match[1]:
        raise _not_a_host()
    port = match[2] if match[2] is not None else str(DEFAULT_PORTS[scheme])
    if _PORT.fullmatch(port) is None or int(port) not in rules.ports:
        raise refuse("port", f"the image URL's port is not allowed; {_allowed(rules.ports)}")
    return match[1].startswith("[")


def _check_host(host: str, bracketed: bool, rules: UrlRules) -> None:
    address = _address(host) if bracketed else None
    name = host.removesuffix(".")
    if not bracketed:
        if len(name) > MAX_HOST or HOST_NAME.fullmatch(name) is None:
            raise _not_a_host()
        if _NUMERIC.fullmatch(name):
            address = _address(host)
    target: str | Address = name if address is None else address
    if matches_host(target, rules.deny):
        raise _not_allowed()
    if matches_host(target, rules.internal):
        return
    if address is not None and not is_public(address):
        raise refuse(
            "not_public",
            "the image URL's host is not a public address; send the image as data instead",
        )
    if address is None and _is_local(name):
        raise refuse("local_name", "the image URL's host is a local name; use a public one")
    if not matches_host(target, rules.allow):
        raise _not_allowed()


def _not_a_url(rules: UrlRules) -> ImageRefused:
    return refuse(
        "not_a_url",
        f"the image URL must begin with a scheme and a host; {_allowed(rules.schemes)}",
    )


def _not_a_host() -> ImageRefused:
    return refuse("host", "the image URL's host is not a host name or an address; write it plainly")


def _not_allowed() -> ImageRefused:
    return refuse("host_policy", "the image URL's host is not one that this gateway allows")


def _allowed(values: Iterable[Any]) -> str:
    return f"allowed: {', '.join(map(str, sorted(values)))}"


def _address(host: str) -> Address:
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except ValueError:
        raise refuse(
            "ip_notation", "write the image URL's address in its usual form, four decimal numbers"
        ) from None


def _is_local(name: str) -> bool:
    _, dot, last = name.rpartition(".")
    return not dot or last in LOCAL_SUFFIXES


def is_inner(url: str) -> bool:
    """Whether a URL's own text says that it is on an inner network: its address or its name."""
    host = (URL(url).raw_host or "").removesuffix(".")
    literal = ":" in host or _NUMERIC.fullmatch(host)
    return not is_public(host) if literal else _is_local(host)


def _as_written(rest: str, parsed: URL) -> URL:
    if not rest.startswith("/") or not rest.isascii() or _QUOTABLE.search(rest):
        return parsed
    return URL(str(parsed.origin()) + rest, encoded=True)
