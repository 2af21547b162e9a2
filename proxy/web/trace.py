"""What the log line and the metrics tell of a request, gathered while it is served."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aiohttp import web

from proxy.access import Access
from proxy.domain.errors import LimitExceeded
from proxy.store.ledger import Lease


@dataclass(slots=True)
class Trace:
    """Observation only: nothing that a request does depends on it."""

    id: str
    client: str
    route: str = ""  # as the code has it; what a client made up may hold a key
    started: float = field(default_factory=time.perf_counter)
    access: Access | None = None
    model: str = ""
    provider: str = ""
    lease: Lease | None = None
    first_byte: float | None = None
    ended: str = ""
    reason: str = ""
    cause: str = ""  # what went wrong upstream: a status, or the kind of fault
    shrunk_to: int = 0  # the output cap, where the budget lowered it
    observed: str = ""  # why it would have been refused, had the plan been enforced
    stages: dict[str, float] = field(default_factory=dict)
    _mark: float = 0.0

    def stage(self, name: str) -> None:
        """The time since the last stage, or the beginning, went into this one."""
        now = time.perf_counter()
        self.stages[name] = now - (self._mark or self.started)
        self._mark = now

    def reserved(self, lease: Lease, would_be: LimitExceeded | None) -> None:
        self.lease = lease
        self.provider = lease.provider
        self.observed = would_be.reason if would_be else ""
        self.stage("reserve")

    def got_first_byte(self) -> None:
        if self.first_byte is None:
            self.first_byte = time.perf_counter() - self.started


TRACE = web.RequestKey("trace", Trace)
