"""The transports that a provider can have, by the config's words for them."""

from __future__ import annotations

from proxy.upstream.call import Transport
from proxy.upstream.direct import DirectTransport
from proxy.upstream.over_aiohttp import AiohttpTransport


def open_transports() -> dict[str, Transport]:
    """One of each `transport` of the config, to be closed."""
    return {"direct": DirectTransport(), "aiohttp": AiohttpTransport()}
