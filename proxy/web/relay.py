"""From the upstream's answer to the client's, while the meter counts. The hot path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy.domain.errors import GatewayError, UpstreamFailed, UpstreamRefused
from proxy.domain.sse import EventTooLarge
from proxy.providers.answers import LARGEST_ERROR, refusal_of
from proxy.store.ledger import Lease
from proxy.upstream.call import Call, Outgoing
from proxy.web.answer import SOURCE, error_event, raw_json
from proxy.web.door import DOOR, Door
from proxy.web.outlet import Outlet
from proxy.web.trace import TRACE, Trace

_LARGEST_ANSWER: Final = 64 * 1024 * 1024


class _SlowClient(GatewayError):
    """A client that reads nothing for too long; it will not read this either."""

    reason = "slow_client"


async def relay(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease, *, stream: bool
) -> web.StreamResponse:
    """Ask the upstream and pass on what it answers; `headers` go with the answer.

    Raises GatewayError for what goes wrong before the answer's first byte, and
    ConnectionError where the client has gone.
    """
    headers = {**headers, SOURCE: "upstream"}
    trace = http[TRACE]
    trace.ended = "client_gone"  # until something else is known
    lease.meter.called()
    try:
        if stream:
            return await _relay_stream(http, outgoing, headers, lease)
        return await _relay_whole(http, outgoing, headers, lease)
    except GatewayError as error:
        _refund(lease, error)
        trace.ended = error.reason
        raise


async def _relay_stream(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease
) -> web.StreamResponse:
    door, trace = http.app[DOOR], http[TRACE]
    async with _open(door, outgoing, lease) as call:
        await _accept(call, "text/event-stream", outgoing)
        first = await call.first()
        if not first:
            raise UpstreamFailed("The upstream answered with an empty stream. Try again.")
        trace.got_first_byte()
        outlet = Outlet(http, door.patience)
        await outlet.begin(headers)
        with door.metrics.streams.track_inprogress():
            await _deliver(call, first, lease, outlet, trace, door)
        return outlet.response


async def _deliver(
    call: Call, first: bytes, lease: Lease, outlet: Outlet, trace: Trace, door: Door
) -> None:
    """Every byte to the client; a failure ends in an error event and an unclean close."""
    meter = lease.meter
    try:
        failure = await _pump(call, first, lease, outlet, door)
    except Exception:
        outlet.break_off(error_event(GatewayError("The gateway failed on this request.")))
        raise
    told = meter.error_sent
    rest = b"" if failure else meter.rest()
    if failure is None and not meter.complete:
        # An event without an end is no use to a client, and would swallow the error's.
        failure = UpstreamFailed("The upstream broke off its answer. What came is not complete.")
    if failure is not None:
        trace.ended = failure.reason
        outlet.break_off(b"" if told else error_event(failure))
        return
    if rest:
        outlet.write(rest)
    outlet.end()
    trace.ended = UpstreamFailed.reason if meter.error_sent else "complete"


async def _pump(
    call: Call, first: bytes, lease: Lease, outlet: Outlet, door: Door
) -> GatewayError | None:
    """The upstream's bytes into the outlet until they end, or why they cannot.

    Raises ConnectionError where the client has gone.
    """
    meter = lease.meter
    observe_gap = door.metrics.chunk_gap.labels(lease.model, lease.provider).observe
    last = time.perf_counter()

    def pass_on(data: bytes) -> None:
        passed = meter.feed(data)
        if passed:
            outlet.write(passed)
            if outlet.congested:
                call.pause()
                door.background.start(_catch_up(call, outlet, door.patience), "slow-client")

    def sink(data: bytes) -> None:
        nonlocal last
        now = time.perf_counter()
        observe_gap(now - last)
        last = now
        pass_on(data)

    try:
        pass_on(first)
        await call.deliver(sink)
    except EventTooLarge:
        return UpstreamFailed("An event of the upstream is too large.")
    except GatewayError as error:
        return None if meter.complete else error  # after the end mark nothing is missed
    return None


async def _catch_up(call: Call, outlet: Outlet, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            await outlet.drained()
    except TimeoutError:
        call.abort(_SlowClient("The client did not read in time."))
    except ConnectionError:
        pass  # the next write says so
    finally:
        call.resume()


async def _relay_whole(
    http: web.Request, outgoing: Outgoing, headers: Mapping[str, str], lease: Lease
) -> web.Response:
    """A client that leaves does not stop this one: it is read to its end, so that the charge
    is exact; the provider's time-outs bound it.
    """
    door = http.app[DOOR]
    task = door.background.start(_fetch(door, outgoing, lease), "whole-answer")
    try:
        body = await asyncio.shield(task)
    except asyncio.CancelledError:
        lease.drain = task
        raise
    http[TRACE].ended = "complete"
    return raw_json(body, headers=headers)


async def _fetch(door: Door, outgoing: Outgoing, lease: Lease) -> bytes:
    try:
        async with _open(door, outgoing, lease) as call:
            await _accept(call, "application/json", outgoing)
            body = await call.read(_LARGEST_ANSWER)
        if not lease.meter.whole(body):
            raise UpstreamFailed("The upstream's answer is not a JSON object. Try again.")
    except GatewayError as error:
        if not _refund(lease, error):
            lease.meter.unseen()
        raise
    return body


def _refund(lease: Lease, error: GatewayError) -> bool:
    """Refund what the upstream does not bill: not what it may have done too late, or for us to
    break off. Whether it was refunded."""
    unbilled = isinstance(error, UpstreamFailed) and not error.billed
    if unbilled or isinstance(error, UpstreamRefused):
        lease.meter.refused()
        return True
    return False


@asynccontextmanager
async def _open(door: Door, outgoing: Outgoing, lease: Lease) -> AsyncIterator[Call]:
    """A call that the ledger, and the worker when it stops, can end."""
    async with door.upstream.open(outgoing) as call:
        lease.lost = call.abort
        door.calls.add(call)
        try:
            yield call
        finally:
            door.calls.discard(call)


async def _refusal(call: Call, outgoing: Outgoing) -> GatewayError:
    try:
        body = await call.read(LARGEST_ERROR)
    except UpstreamFailed as error:
        # Whatever became of its words, it has refused: nothing was done that it could bill.
        raise UpstreamFailed("The upstream broke off its error. Try again.") from error
    if outgoing.secret:
        body = body.replace(outgoing.secret.encode(), b"***")
    return refusal_of(call.status, call.headers, body)


async def _accept(call: Call, wanted: str, outgoing: Outgoing) -> None:
    """Raise GatewayError for an answer that is not the one that was asked for."""
    if call.status != 200:
        raise await _refusal(call, outgoing)
    kind = call.headers.get("content-type", wanted).partition(";")[0].strip().lower()
    encoding = call.headers.get("content-encoding", "identity").lower()
    if kind != wanted or encoding != "identity":
        raise UpstreamFailed(f"The upstream did not answer with {wanted}. Try again.")
