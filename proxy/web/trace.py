"""What the log line and the metrics tell of a request, gathered while it is served."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from aiohttp import web
from msgspec import Struct

from proxy.access import Access
from proxy.domain.errors import GatewayError, LimitExceeded
from proxy.store.ledger import Lease

#: How a request ended whose client left before its answer's end.
CLIENT_GONE: Final = "client_gone"


def cause_of(error: GatewayError) -> str:
    """What lies behind it: a status, or the kind of fault; "" where there is no more to tell."""
    return error.cause or (type(error.__cause__).__name__ if error.__cause__ else "")


class Failed(Struct):
    """An attempt that was followed by another one."""

    provider: str
    model: str
    outcome: str
    cause: str


class Trace:
    """Observation only: nothing that a request does depends on it.

    `route` is the path as the code has it, since what a client made up may hold a key. `times`:
    when it began, and when each of metrics.STAGES was over (`time.perf_counter`).
    """

    __slots__ = (
        "access",
        "cause",
        "client",
        "ended",
        "failed",
        "first_byte",
        "id",
        "lease",
        "model",
        "observed",
        "provider",
        "reason",
        "route",
        "shrunk_to",
        "times",
        "upstream_id",
    )

    def __init__(self, id: str, client: str, route: str = "") -> None:
        self.id = id
        self.client = client
        self.route = route
        self.times = [perf_counter()]
        self.access: Access | None = None
        self.model = ""
        self.provider = ""
        self.failed: tuple[Failed, ...] = ()
        self.lease: Lease | None = None
        self.upstream_id = ""  # the provider's own of this request
        self.first_byte: float | None = None
        self.ended = ""
        self.reason = ""
        self.cause = ""  # what went wrong upstream: a status, or the kind of fault
        self.shrunk_to = 0  # the output cap, where the budget lowered it
        self.observed = ""  # why it would have been refused, had the plan been enforced

    def stage(self) -> None:
        """The next stage is over."""
        self.times.append(perf_counter())

    def reserved(self, lease: Lease, would_be: LimitExceeded | None) -> None:
        self.lease = lease
        self.provider = lease.provider
        self.observed = would_be.reason if would_be else ""
        self.stage()

    def left(self) -> None:
        """The client has gone; SDKs do with the end mark, before the body's own end."""
        lease = self.lease
        if lease is None or self.ended != CLIENT_GONE or lease.access.drain:
            return  # a stream that is read on comes to its end without its client
        if lease.meter.complete:
            self.ended = "complete"

    def got_first_byte(self) -> None:
        if self.first_byte is None:
            self.first_byte = perf_counter() - self.times[0]


TRACE = web.RequestKey("trace", Trace)
