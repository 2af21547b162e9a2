"""What the handlers work with: put together once, in the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.domain.errors import Draining
from proxy.domain.routing import Health, Model
from proxy.images.guard import ImageGuard
from proxy.logs import Log
from proxy.metrics import Metrics
from proxy.store.client import Store
from proxy.store.directory import Directory
from proxy.store.keyring import KeyRing
from proxy.store.ledger import Ledger
from proxy.store.presence import Heartbeat
from proxy.store.switches import Switches
from proxy.upstream.call import Endable, Provider, Transport
from proxy.web.background import Background
from proxy.web.pulse import Pulse


def stopping() -> Draining:
    """Why a worker that stops breaks a request off."""
    return Draining("The gateway is shutting down. Try again.")


@dataclass(frozen=True, slots=True)
class Door:
    """The gateway's parts. `models` are there by their aliases, too, and what clients are told of
    them in `catalog`.

    `draw` is uniform in [0, 1); `patience` is how many seconds a client may read nothing.
    `grace`: some requests can be served while the store is away. `calls` are those under way, also
    where no head has come; once `ended` is set, no more are begun. `draining`: no new clients are
    let in.
    """

    models: Mapping[str, Model]
    catalog: Mapping[str, Mapping[str, Any]]
    providers: Mapping[str, Provider]
    health: Health
    switches: Switches
    keys: KeyRing
    images: ImageGuard
    ledger: Ledger
    upstreams: Mapping[str, Transport]
    metrics: Metrics
    log: Log
    store: Store
    directory: Directory
    heart: Heartbeat
    background: Background
    pulse: Pulse
    draw: Callable[[], float]
    max_body: int
    patience: float
    grace: bool
    calls: set[Endable] = field(default_factory=set)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end_calls(self) -> None:
        """Break off what is under way, so that each client is told, and what comes after."""
        self.ended.set()
        for call in tuple(self.calls):
            try:
                call.abort(stopping())
            except Exception as error:  # which is no reason to leave the others under way
                self.log.unexpected(error)


DOOR = web.AppKey("door", Door)
