"""What is true of every route: an id, an error's envelope, a log line, the metrics of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from proxy.domain.errors import (
    BadRequest,
    GatewayError,
    MethodNotAllowed,
    NotFound,
    StoreUnavailable,
)
from proxy.web.answer import REQUEST_ID, error_answer
from proxy.web.connection import FAILED, Refuse
from proxy.web.door import Door
from proxy.web.read import Network, client_address, end_is_unsure, request_id
from proxy.web.record import record, shown
from proxy.web.trace import TRACE, Trace, cause_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: A client that leaves gets no answer; nginx's number says so in logs and metrics.
_GONE: Final = 499

SERVER: Final = "visiongate"


def watch(door: Door, trusted: tuple[Network, ...], *, recorded: bool) -> Middleware:
    """The one middleware: identify, answer errors, record."""

    @web.middleware
    async def watched(request: web.Request, handler: Handler) -> web.StreamResponse:
        trace = request[TRACE] = Trace(
            request_id(request), client_address(request, trusted), _route(request)
        )
        status = _GONE
        try:
            answer = await handler(request)
            status = answer.status
            return answer
        except (asyncio.CancelledError, ConnectionError):
            trace.left()
            raise
        except Exception as caught:
            status = 200  # where an answer has begun, and no other can follow
            answer = _refused(door, request, caught, trace)
            status = answer.status
            return answer
        finally:
            if recorded and (trace.route or request.path) != "/healthz":
                record(door, request, trace, status)

    return watched


def refuser(door: Door, trusted: tuple[Network, ...], *, recorded: bool) -> Refuse:
    """What answers a request that does not come as far as the middleware."""

    def refuse(http: web.BaseRequest, error: GatewayError) -> web.StreamResponse:
        trace = Trace(request_id(http), client_address(http, trusted))
        trace.reason = error.reason
        answer = error_answer(error)
        answer.headers.update({"server": SERVER, REQUEST_ID: trace.id})
        if recorded:
            record(door, http, trace, answer.status)
        return answer

    return refuse


def _route(http: web.Request) -> str:
    resource = http.match_info.route.resource
    return resource.canonical if resource is not None else ""


async def name_request(http: web.Request, response: web.StreamResponse) -> None:
    """Every answer carries the request's id, also those that aiohttp begins."""
    response.headers["server"] = SERVER
    if TRACE in http:
        response.headers[REQUEST_ID] = http[TRACE].id


def _refused(door: Door, http: web.Request, caught: Exception, trace: Trace) -> web.StreamResponse:
    """The answer to what was raised. Raises ConnectionError where another has begun."""
    error = _as_ours(door, http, caught, trace)
    # Else the two hold each other, and their frames all that the request brought.
    error.__traceback__ = caught.__traceback__ = None
    trace.reason = error.reason
    if http.writer.output_size > 0:
        raise ConnectionError("a second answer would follow a part of the first")
    answer = error_answer(error)
    if error.status == 408 or end_is_unsure(http):
        answer.force_close()
    return answer


def _as_ours(door: Door, http: web.Request, error: Exception, trace: Trace) -> GatewayError:
    if isinstance(error, GatewayError):
        trace.cause = cause_of(error)
        if isinstance(error, StoreUnavailable):
            door.metrics.store_errors.inc()
        return error
    if isinstance(error, web.HTTPException):
        return _routing_error(http, error)
    door.log.unexpected(error, id=trace.id)
    return GatewayError(FAILED)


def _routing_error(http: web.Request, error: web.HTTPException) -> GatewayError:
    path = shown(http.path)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(
            f"{path} takes {allowed}, not {shown(http.method, 16)}.", headers={"allow": allowed}
        )
    if error.status == 404:
        return NotFound(
            f"There is no {shown(http.method, 16)} {path} here. Served: {_served(http.app)}."
        )
    found = BadRequest(f"The request cannot be served: {error.reason}.")
    found.status = error.status
    return found


def _served(app: web.Application) -> str:
    return ", ".join(
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    )
