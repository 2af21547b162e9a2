"""Which headers pass the gateway, each way; all others stop here, or are made anew. Pure.

Up go, beside these, `upstream.call.OWN_HEADERS`, the provider's own (its key) and the request's id.
Down go the content-type, the limits of the key (not the upstream's, which are everybody's), and
what the gateway says of itself. So nothing hop-by-hop passes, no cookie, no address, no client's
key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

UPSTREAM_ID: Final = "x-upstream-request-id"

#: The client's headers that a provider gets (W3C Trace Context).
UP: Final = ("traceparent", "tracestate")

#: The provider's that a client gets, and under which name: by its own id of a request its support
#: finds it. OpenAI's, Anthropic's and Azure's.
DOWN: Final[Mapping[str, str]] = {
    "x-request-id": UPSTREAM_ID,
    "request-id": UPSTREAM_ID,
    "apim-request-id": UPSTREAM_ID,
    "openai-processing-ms": "openai-processing-ms",
}

#: Those that say when to come again, beside an error that is passed on.
WAITING: Final = ("retry-after", "retry-after-ms", "x-should-retry")

_LONGEST: Final = 512
_PLAIN: Final = re.compile(r"[\x21-\x7e]{1,128}")
#: Seconds, a date (RFC 9110 section 10.2.3), or yes and no.
_TIME: Final = re.compile(
    r"[0-9]{1,10}(?:\.[0-9]{1,9})?|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    r"|true|false"
)


class Headers(Protocol):
    """A client's: names in any case, each as often as it came."""

    def __contains__(self, name: object, /) -> bool: ...
    def getall(self, name: str, /) -> list[str]: ...


def passed_up(came: Headers) -> dict[str, str]:
    """Of a client's headers what goes to the provider; what no header should hold is left out."""
    passed = {}
    for name in UP:
        if name in came:
            value = ",".join(came.getall(name))  # RFC 9110 section 5.3
            if value and value.isascii() and len(value) <= _LONGEST:
                passed[name] = value
    return passed


def passed_down(came: Mapping[str, str], secret: str | None) -> dict[str, str]:
    """Of a provider's headers what goes to the client, unless it holds the provider's key."""
    passed: dict[str, str] = {}
    for name in DOWN:
        if name in came:
            value, known_as = came[name], DOWN[name]
            plain = known_as not in passed and _PLAIN.fullmatch(value)
            if plain and (secret is None or secret not in value):
                passed[known_as] = value
    return passed


def waiting(came: Mapping[str, str]) -> dict[str, str]:
    """When to come again, as the provider says."""
    found = {name: came[name] for name in WAITING if name in came}
    return {name: value for name, value in found.items() if _TIME.fullmatch(value)}
