"""From the upstream's answer to the client's, while the meter counts. The hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from aiohttp import web

from proxy.domain.errors import GatewayError, UpstreamFailed
from proxy.domain.meter import StreamMeter
from proxy.domain.sse import EventTooLarge
from proxy.providers.answers import LARGEST_ERROR, refusal_of
from proxy.store.ledger import Lease
from proxy.upstream.call import Call, Outgoing
from proxy.web.answer import SOURCE, error_event, raw_json
from proxy.web.background import Background
from proxy.web.door import DOOR
from proxy.web.outlet import Outlet
from proxy.web.trace import TRACE, Trace

_LARGEST_ANSWER: Final = 64 * 1024 * 1024
_SLOW_CLIENT: Final = 60.0  # seconds that a client may read nothing

_BROKEN_OFF: Final = "The upstream broke off its answer. What came is not complete."


async def relay(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease, *, stream: bool
) -> web.StreamResponse:
    """Ask the upstream and pass on what it answers; `headers` go with the answer.

    Raises GatewayError for what goes wrong before the answer's first byte.
    """
    headers = {**headers, SOURCE: "upstream"}
    trace = http[TRACE]
    lease.meter.called()
    try:
        if stream:
            return await _relay_stream(http, outgoing, headers, lease)
        return await _relay_whole(http, outgoing, headers, lease)
    except GatewayError as error:
        lease.meter.refused()
        trace.ended = error.reason
        raise


async def _relay_stream(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease
) -> web.StreamResponse:
    door, trace = http.app[DOOR], http[TRACE]
    trace.ended = "client_gone"
    async with door.upstream.open(outgoing) as call:
        lease.lost = call.abort
        await _accept(call, "text/event-stream")
        first = await call.first()
        if not first:
            raise UpstreamFailed("The upstream answered with an empty stream. Try again.")
        trace.got_first_byte()
        outlet = Outlet(http)
        await outlet.begin(headers)
        with door.metrics.streams.track_inprogress():
            await _deliver(call, first, lease.meter, outlet, trace, door.background)
        return outlet.response


async def _deliver(
    call: Call,
    first: bytes,
    meter: StreamMeter,
    outlet: Outlet,
    trace: Trace,
    background: Background,
) -> None:
    """Every byte to the client; a failure ends in an error event and an unclean close."""

    def sink(data: bytes) -> None:
        passed = meter.feed(data)
        if passed:
            outlet.write(passed)
            if outlet.congested:
                call.pause()
                background.start(_catch_up(call, outlet), "slow-client")

    try:
        sink(first)
        await call.deliver(sink)
        rest = meter.rest()
        if rest:
            outlet.write(rest)
        if not meter.complete:
            raise UpstreamFailed(_BROKEN_OFF)
    except EventTooLarge:
        _break_off(outlet, meter, trace, UpstreamFailed("An event of the upstream is too large."))
    except GatewayError as error:
        _break_off(outlet, meter, trace, error)
    else:
        outlet.end()
        trace.ended = "complete"


async def _catch_up(call: Call, outlet: Outlet) -> None:
    try:
        async with asyncio.timeout(_SLOW_CLIENT):
            await outlet.drained()
    except TimeoutError:
        call.abort(UpstreamFailed("The client did not read in time."))
    except ConnectionError:
        pass  # it has gone, and its handler is being cancelled
    finally:
        call.resume()


def _break_off(outlet: Outlet, meter: StreamMeter, trace: Trace, error: GatewayError) -> None:
    trace.ended = error.reason
    if not meter.error_sent:
        outlet.write(error_event(error))
    outlet.break_off()


async def _relay_whole(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease
) -> web.Response:
    """A client that leaves does not stop this one: it is read to its end, so that the charge
    is exact; the provider's time-outs bound it.
    """
    work = _fetch(http.app[DOOR].upstream.open(outgoing), lease)
    task = http.app[DOOR].background.start(work, "whole-answer")
    try:
        body = await asyncio.shield(task)
    except asyncio.CancelledError:
        lease.drain = task
        raise
    http[TRACE].got_first_byte()
    return raw_json(body, headers=headers)


async def _fetch(opening: AbstractAsyncContextManager[Call], lease: Lease) -> bytes:
    try:
        async with opening as call:
            lease.lost = call.abort
            await _accept(call, "application/json")
            body = await call.read(_LARGEST_ANSWER)
        if not lease.meter.whole(body):
            raise UpstreamFailed("The upstream's answer is not a JSON object. Try again.")
    except GatewayError:
        lease.meter.refused()
        raise
    return body


async def _accept(call: Call, wanted: str) -> None:
    """Raise GatewayError for an answer that is not the one that was asked for."""
    if call.status != 200:
        raise refusal_of(call.status, call.headers, await call.read(LARGEST_ERROR))
    kind = call.headers.get("content-type", wanted).partition(";")[0].strip().lower()
    encoding = call.headers.get("content-encoding", "identity").lower()
    if kind != wanted or encoding != "identity":
        raise UpstreamFailed(f"The upstream did not answer with {wanted}. Try again.")
