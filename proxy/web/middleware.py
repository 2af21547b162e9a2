"""What is true of every route: an id, an error's envelope, a log line, the metrics of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.domain.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
)
from proxy.domain.limits import NANO
from proxy.web.answer import REQUEST_ID, error_answer
from proxy.web.door import DOOR, Door
from proxy.web.read import Network, client_address, request_id
from proxy.web.trace import TRACE, Trace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: A client that leaves gets no answer; nginx's number says so in logs and metrics.
CLIENT_GONE = 499

SERVED = "POST /v1/chat/completions, GET /v1/models, GET /v1/usage and GET /healthz"


def watch(trusted: tuple[Network, ...]) -> Middleware:
    """The one middleware: identify, answer errors, record."""

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        trace = request[TRACE] = Trace(request_id(request), client_address(request, trusted))
        status = CLIENT_GONE
        try:
            answer = await _answered(request, handler, trace)
            status = answer.status
            return answer
        finally:
            _record(request, trace, status)

    return watched


async def name_request(http: web.Request, response: web.StreamResponse) -> None:
    """Every answer carries the request's id, also those that aiohttp begins."""
    response.headers[REQUEST_ID] = http[TRACE].id


async def _answered(http: web.Request, handler: Handler, trace: Trace) -> web.StreamResponse:
    try:
        return await handler(http)
    except GatewayError as error:
        trace.reason = error.reason
        if isinstance(error, StoreUnavailable):
            http.app[DOOR].metrics.store_errors.inc()
        return error_answer(error)
    except web.HTTPException as error:
        return error_answer(_routing_error(http, error, trace))
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        # Its text may quote the request: the type and the place are enough to find it.
        trace.reason = "internal"
        http.app[DOOR].log.error(
            "unexpected", id=trace.id, error=type(error).__name__, at=_at(error)
        )
        return error_answer(GatewayError("The gateway failed on this request. Try again."))


def _routing_error(http: web.Request, error: web.HTTPException, trace: Trace) -> GatewayError:
    found: GatewayError
    if error.status == 404:
        found = NotFound(f"There is no {http.method} {http.path[:128]} here. Served: {SERVED}.")
    elif isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        found = MethodNotAllowed(
            f"{http.path[:128]} takes {allowed}, not {http.method[:16]}.",
            headers={"allow": allowed},
        )
    else:
        found = BadRequest(f"The request cannot be served: {error.reason}.")
        found.status = error.status
    trace.reason = found.reason
    return found


def _at(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"


def _record(http: web.Request, trace: Trace, status: int) -> None:
    seconds = time.perf_counter() - trace.started
    door = http.app[DOOR]
    if http.path != "/healthz":
        _measure(door, http, trace, status, seconds)
        door.log.info("request", **_line(http, trace, status, seconds))


def _measure(door: Door, http: web.Request, trace: Trace, status: int, seconds: float) -> None:
    metrics, access = door.metrics, trace.access
    team = access.team.name if access else ""
    key = metrics.key_label(access.key) if access else ""
    metrics.requests.labels(team, key, trace.model, trace.provider, str(status)).inc()
    if trace.reason and trace.lease is None:
        metrics.rejections.labels(team, trace.reason).inc()
    if trace.lease is None:
        return
    served = (trace.model, trace.provider)
    metrics.request_seconds.labels(*served).observe(seconds)
    metrics.attempts.labels(trace.provider, trace.ended or "complete").inc()
    for stage, spent in trace.stages.items():
        metrics.overhead.labels(stage).observe(spent)
    if trace.first_byte is not None:
        metrics.first_seconds.labels(*served).observe(trace.first_byte)
        metrics.streams_ended.labels(trace.ended or "complete").inc()


def _line(http: web.Request, trace: Trace, status: int, seconds: float) -> dict[str, object]:
    access, lease = trace.access, trace.lease
    line: dict[str, object] = {
        "id": trace.id,
        "client": trace.client,
        "method": http.method,
        "path": http.path[:128],
        "status": status,
        "team": access.team.name if access else "",
        "key": access.key.name if access else "",
        "model": trace.model,
        "provider": trace.provider,
        "reason": trace.reason,
        "ended": trace.ended,
        "ms": round(seconds * 1000, 2),
    }
    if trace.first_byte is not None:
        line["first_byte_ms"] = round(trace.first_byte * 1000, 2)
    if lease is not None and lease.charge is not None:
        charge = lease.charge
        line["input_tokens"] = charge.amounts.input
        line["output_tokens"] = charge.amounts.output
        line["cached_tokens"] = charge.cached
        line["images"] = charge.amounts.images
        line["usd"] = charge.amounts.usd / NANO
        line["source"] = charge.source
    return line
