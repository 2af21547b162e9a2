"""What is told of a request once it is over: a log line, and the metrics."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType, field

from proxy.domain.limits import NANO
from proxy.metrics import Metrics
from proxy.web.door import Door
from proxy.web.trace import Failed, Trace

_now = partial(datetime.now, UTC)


class Line(Struct):
    """A request's line in the log, in this order: the event, its level and its time come last, as
    in all lines. What is not known is left out.
    """

    id: str
    client: str
    method: str
    path: str
    status: int
    team: str
    key: str
    model: str
    provider: str
    reason: str
    observed: str
    cause: str
    ended: str
    ms: float
    upstream_id: str | UnsetType = UNSET
    first_byte_ms: float | UnsetType = UNSET
    shrunk_to: int | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cached_tokens: int | UnsetType = UNSET
    images: int | UnsetType = UNSET
    usd: float | UnsetType = UNSET
    source: str | UnsetType = UNSET
    failed: tuple[Failed, ...] | UnsetType = UNSET
    event: str = "request"
    level: str = "info"
    timestamp: datetime = field(default_factory=_now)


def record(door: Door, http: web.BaseRequest, trace: Trace, status: int) -> None:
    """Log and count one request. `status` is what was answered."""
    seconds = time.perf_counter() - trace.times[0]
    _measure(door.metrics, trace, status, seconds)
    door.log.write_soon(_line(http, trace, status, seconds))


def shown(text: str, length: int = 128) -> str:
    """A client's words, fit to be written: short, and without what no encoding has."""
    if len(text) <= length and text.isascii():
        return text
    return text[:length].encode(errors="backslashreplace").decode()


def _measure(metrics: Metrics, trace: Trace, status: int, seconds: float) -> None:
    access = trace.access
    team = access.team.name if access else ""
    key = metrics.key_label(access.key) if access else ""
    if trace.observed:
        metrics.rejections[team, f"observed_{trace.observed}"] += 1
    if trace.lease is not None:
        who = (team, key, trace.model, trace.provider, str(status), trace.ended)
        metrics.served(who, seconds, trace.first_byte, trace.times)
        return
    metrics.requests[team, key, trace.model, trace.provider, str(status)] += 1
    if trace.reason:
        metrics.rejections[team, trace.reason] += 1


def _line(http: web.BaseRequest, trace: Trace, status: int, seconds: float) -> Line:
    access, lease = trace.access, trace.lease
    line = Line(
        id=trace.id,
        client=trace.client,
        method=shown(http.method, 16),
        path=trace.route,
        status=status,
        team=access.team.name if access else "",
        key=access.key.name if access else "",
        model=trace.model,
        provider=trace.provider,
        reason=trace.reason,
        observed=trace.observed,
        cause=trace.cause,
        ended=trace.ended,
        ms=_ms(seconds),
    )
    if trace.upstream_id:
        line.upstream_id = trace.upstream_id
    if trace.first_byte is not None:
        line.first_byte_ms = _ms(trace.first_byte)
    if trace.shrunk_to:
        line.shrunk_to = trace.shrunk_to
    if lease is not None and lease.charge is not None:
        charge = lease.charge
        line.input_tokens = charge.amounts.input
        line.output_tokens = charge.amounts.output
        line.cached_tokens = charge.cached
        line.images = charge.amounts.images
        line.usd = charge.amounts.usd / NANO
        line.source = charge.source
    if trace.failed:
        line.failed = trace.failed
    return line


def _ms(seconds: float) -> float:
    return round(seconds * 100_000) / 100
