"""What the relay asks of a connection to a provider, whichever one carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from proxy.domain.errors import GatewayError

#: Gets the bytes of a body as they come, in the reader's own turn: it must not block.
Sink = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle` is the longest silence within a body."""

    connect: float
    first_byte: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream as the config has it."""

    name: str
    kind: str
    base_url: str
    api_keys: tuple[str, ...]
    timeouts: Timeouts


@dataclass(slots=True)
class Outgoing:
    """A request, ready to be sent. `secret` is the provider's key within its headers.

    `body` may be of many megabytes, and is let go by whoever no longer needs it.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeouts: Timeouts
    secret: str | None = field(default=None, repr=False)


class Call(Protocol):
    """A request whose answer's head has come."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamFailed, also where it is larger than `limit`."""

    async def first(self) -> bytes:
        """The first bytes of the body, b"" where there are none. Raises UpstreamFailed."""

    async def deliver(self, sink: Sink) -> None:
        """Every further byte into the sink, until the body's end. Raises UpstreamFailed."""

    def pause(self) -> None:
        """Read no more until `resume`: what has been read is still delivered."""

    def resume(self) -> None: ...

    def abort(self, reason: GatewayError) -> None:
        """Close the connection; what waits on this call raises `reason`."""


class Transport(Protocol):
    """Opens calls. Leaving the block closes or reuses the connection."""

    async def close(self) -> None:
        """Close every connection."""

    def open(
        self, outgoing: Outgoing, sent: Callable[[], None]
    ) -> AbstractAsyncContextManager[Call]:
        """Send a request and wait for the answer's head; `sent` is called when it is being
        written, from when on the upstream may bill it.

        Raises UpstreamFailed or UpstreamTimeout.
        """
