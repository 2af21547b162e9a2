"""A request to its upstreams, one after the other, and their answer to its client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, Final

from aiohttp import web

from proxy.domain.errors import GatewayError, UpstreamFailed
from proxy.providers.answers import LARGEST_ERROR, failure_in, refusal_of
from proxy.providers.headers import UPSTREAM_ID, passed_down
from proxy.store.ledger import Lease
from proxy.upstream.call import Call
from proxy.web.answer import SOURCE, raw_json
from proxy.web.attempts import Attempt, another
from proxy.web.door import Door, stopping
from proxy.web.stream import Passage
from proxy.web.trace import Trace, cause_of

_LARGEST_ANSWER: Final = 64 * 1024 * 1024

#: Seconds for which a stream is read on once its client has gone.
_READ_ON: Final = 60.0


async def relay(
    http: web.Request,
    door: Door,
    trace: Trace,
    attempt: Attempt,
    headers: dict[str, str],
    lease: Lease,
    *,
    stream: bool,
) -> web.StreamResponse:
    """Ask the upstream and pass on what it answers; `headers` go with the answer, and are its own.

    Until the answer has begun another upstream may be asked. The call can be ended from its
    beginning; a failure is accounted for. Raises GatewayError for what goes wrong before the
    answer's first byte, and ConnectionError where the client has gone.
    """
    headers[SOURCE] = "upstream"
    passage: Passage | None = None
    try:
        while True:
            call = door.upstreams[attempt.transport].open(attempt, lease.meter.called)
            lease.lost = call.abort
            door.calls.add(call)
            try:
                if door.ended.is_set():
                    raise stopping()
                await call.head()
                told = passed_down(call.headers, attempt.secret)
                trace.upstream_id = told.get(UPSTREAM_ID, "")
                if call.status != 200:
                    raise await _refusal(call, attempt, told)
                told |= headers
                if not stream:
                    return await _whole(call, trace, attempt, told, lease)
                _check_kind(call, "text/event-stream")
                passage = Passage(call, http, door, trace, attempt, told, lease)
                return await passage.run()
            except GatewayError as error:
                failure = error
            except BaseException:
                attempt.left()
                raise
            finally:
                attempt.standing.in_flight -= 1
                lease.lost = None
                door.calls.discard(call)
                call.leave()
            attempt = await another(http, door, trace, attempt, call, failure, lease)
    except BaseException as error:
        if isinstance(error, GatewayError):
            trace.ended = error.reason
            if not error.billed:
                lease.meter.refused()
            if passage is not None and passage.begun:  # with comments alone
                trace.cause = cause_of(error)
                return passage.break_off(error)
        elif isinstance(error, Exception) and not isinstance(error, ConnectionError):
            trace.ended = GatewayError.reason  # a fault of our own
        if not stream:  # whatever it is that keeps the answer from its client
            lease.meter.unseen()  # of no matter where it was refunded
        raise


def outliving(
    work: Coroutine[Any, Any, web.StreamResponse], door: Door, lease: Lease, *, stream: bool
) -> Awaitable[web.StreamResponse]:
    """The work of `relay`, which outlives its client where only its end tells the charge."""
    if not stream:
        return _outlive(door, work, lease)
    return _outlive(door, work, lease, _READ_ON) if lease.access.drain else work


async def _outlive(
    door: Door,
    work: Coroutine[Any, Any, web.StreamResponse],
    lease: Lease,
    seconds: float | None = None,
) -> web.StreamResponse:
    """Work that its client's leaving does not cancel, so that the charge is exact: the lease
    settles when it is over, at most `seconds` later.
    """
    task = door.background.start(work, "outliving")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        lease.drain = task
        if seconds is not None:
            bound = asyncio.get_running_loop().call_later(seconds, task.cancel)
            task.add_done_callback(lambda _: bound.cancel())
        raise


async def _whole(
    call: Call, trace: Trace, attempt: Attempt, headers: dict[str, str], lease: Lease
) -> web.StreamResponse:
    """The provider's time-outs bound it: what is cut short shows none of its output, and costs
    all that was reserved.
    """
    _check_kind(call, "application/json")
    attempt.let_go()
    try:
        body = await call.read(_LARGEST_ANSWER)
    except UpstreamFailed as error:
        error.billed = True  # its answer had begun, so it was made
        raise
    if attempt.translator is not None:
        body = attempt.translator.whole(body)
    if not lease.meter.whole(body):
        raise failure_in(attempt.redacted(body))
    attempt.served()
    trace.ended = "complete"
    return raw_json(body, headers=headers)


async def _refusal(call: Call, attempt: Attempt, told: Mapping[str, str]) -> GatewayError:
    try:
        body = await call.read(LARGEST_ERROR)
    except UpstreamFailed as error:
        # Whatever became of its words, it has refused: nothing was done that it could bill.
        raise UpstreamFailed(
            "The upstream broke off its error. Try again.", headers=told
        ) from error
    status = call.status
    if attempt.refusal is not None:
        status, body = attempt.refusal(status, body)
    refusal = refusal_of(status, call.headers, attempt.redacted(body))
    refusal.headers.update(told)
    return refusal


def _check_kind(call: Call, wanted: str) -> None:
    """Raise UpstreamFailed for an answer that is not the one that was asked for."""
    headers = call.headers
    kind = headers.get("content-type", wanted)
    encoding = headers.get("content-encoding", "identity")
    if kind == wanted and encoding == "identity":  # what most servers say
        return
    kind, encoding = kind.partition(";")[0].strip().lower(), encoding.lower()
    if kind != wanted or encoding != "identity":
        raise UpstreamFailed(f"The upstream did not answer with {wanted}. Try again.")
