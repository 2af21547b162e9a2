"""From the upstream's answer to the client's, while the meter counts. The hot path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final

from aiohttp import web

from proxy.domain.errors import AnswerTooLarge, GatewayError, UpstreamFailed, UpstreamTimeout
from proxy.domain.meter import StreamMeter
from proxy.domain.sse import EventTooLarge
from proxy.providers.answers import LARGEST_ERROR, failure_in, refusal_of
from proxy.providers.headers import UPSTREAM_ID, passed_down
from proxy.providers.kind import Translator
from proxy.store.ledger import Lease
from proxy.upstream.call import Call, Outgoing
from proxy.web.answer import REQUEST_ID, SOURCE, error_event, raw_json
from proxy.web.attempts import Attempt, another
from proxy.web.door import Door, stopping
from proxy.web.outlet import Outlet
from proxy.web.trace import Trace

_Feed = Callable[[bytes], bytes]

#: How a stream ends that its upstream has broken off.
_BREAKS: Final = (UpstreamFailed.reason, UpstreamTimeout.reason)

_LARGEST_ANSWER: Final = 64 * 1024 * 1024

#: Seconds for which a stream is read on once its client has gone.
_READ_ON: Final = 60.0


class _SlowClient(GatewayError):
    """A client that reads nothing for too long; it will not read this either."""

    reason = "slow_client"


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
                return await _stream(call, http, door, trace, attempt, told, lease)
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
            _account(lease.meter, trace, error)
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


async def _stream(
    call: Call,
    http: web.Request,
    door: Door,
    trace: Trace,
    attempt: Attempt,
    headers: dict[str, str],
    lease: Lease,
) -> web.StreamResponse:
    """Every byte to the client; a failure ends in an error event and an unclean close."""
    _check_kind(call, "text/event-stream")
    first = await call.first()
    if not first:
        raise UpstreamFailed("The upstream answered with an empty stream. Try again.")
    attempt.let_go()
    attempt.served()
    trace.got_first_byte()
    outlet = _outlet(http, door, trace, headers, lease)
    call.headers = {}
    meter, metrics, last = lease.meter, door.metrics, b""
    translator = attempt.translator
    feed = meter.feed if translator is None else _translated(translator, meter)
    failure: GatewayError | None = None
    metrics.streaming += 1
    try:
        passed = feed(first)
        if call.over:
            last = passed  # all of it, which goes out at once with its end
        else:
            passage = _Passage(call, outlet, feed, lease, door)
            if not outlet.write(passed):
                passage.hold()
            await call.deliver(passage.take)
    except EventTooLarge:
        failure = AnswerTooLarge("An event of the upstream is too large.")
    except GatewayError as error:
        failure = None if meter.complete else error  # after the end mark nothing is missed
    except Exception:
        outlet.break_off(error_event(GatewayError("The gateway failed on this request.")))
        raise
    finally:
        metrics.streaming -= 1
    _end(outlet, meter, trace, last, failure)
    if trace.ended in _BREAKS:
        attempt.broke_off()
    return outlet.response


def _outlet(
    http: web.Request, door: Door, trace: Trace, headers: dict[str, str], lease: Lease
) -> Outlet:
    """Where the stream goes; what has done its work is let go, for it may last for minutes."""
    headers[REQUEST_ID] = trace.id
    outlet = Outlet(http, headers, door.patience, reads_on=lease.access.drain)
    headers.clear()
    lease.figures = ()
    return outlet


def _translated(translator: Translator, meter: StreamMeter) -> _Feed:
    """What the client gets of a stream that is not OpenAI's."""
    meter.so_far = translator.so_far
    return lambda data: meter.feed(translator.feed(data))


class _Passage:
    """From a call into an outlet, after the first bytes."""

    __slots__ = ("_call", "_door", "_feed", "_last", "_observe", "_outlet")

    def __init__(self, call: Call, outlet: Outlet, feed: _Feed, lease: Lease, door: Door) -> None:
        self._call = call
        self._outlet = outlet
        self._door = door
        self._feed = feed
        self._observe = door.metrics.chunk_gap.labels(lease.model, lease.provider).observe
        self._last = monotonic()  # when something came

    def take(self, data: bytes) -> None:
        """Raises ConnectionError where the client has gone and nobody reads on."""
        # What is called is a local first: CPython then knows the way to it.
        call, outlet, observe, feed = self._call, self._outlet, self._observe, self._feed
        heard = call.heard
        observe(heard - self._last)
        self._last = heard
        passed, chunks = feed(data), call.chunks
        if chunks and passed is data and outlet.chunked:
            keeps_up = outlet.send(chunks)
        else:
            keeps_up = outlet.write(passed)
        if not keeps_up:
            self.hold()

    def hold(self) -> None:
        """Take no more until the client has caught up."""
        self._call.pause()
        patience = self._door.patience
        self._door.background.start(_catch_up(self._call, self._outlet, patience), "slow-client")


def _end(
    outlet: Outlet, meter: StreamMeter, trace: Trace, last: bytes, failure: GatewayError | None
) -> None:
    """End the client's stream after `last`: well, or with what has gone wrong."""
    if failure is None and meter.well:
        outlet.end(last)
        trace.ended = "complete"
        return
    told = meter.error_sent
    rest = b"" if failure else meter.rest()
    if failure is None and not meter.complete:
        # An event without an end is no use to a client, and would swallow the error's.
        failure = UpstreamFailed("The upstream broke off its answer. What came is not complete.")
    if failure is not None:
        _account(meter, trace, failure)
        outlet.break_off(last if told else last + error_event(failure))
        return
    outlet.end(last + rest)
    trace.ended = UpstreamFailed.reason if meter.error_sent else "complete"


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


async def _whole(
    call: Call, trace: Trace, attempt: Attempt, headers: dict[str, str], lease: Lease
) -> web.StreamResponse:
    """The provider's time-outs bound it: what is cut short shows none of its output, and costs
    all that was reserved.
    """
    _check_kind(call, "application/json")
    attempt.let_go()
    body = await call.read(_LARGEST_ANSWER)
    if attempt.translator is not None:
        body = attempt.translator.whole(body)
    if not lease.meter.whole(body):
        raise failure_in(_redacted(body, attempt))
    attempt.served()
    trace.ended = "complete"
    return raw_json(body, headers=headers)


def _account(meter: StreamMeter, trace: Trace, error: GatewayError) -> None:
    """Tell how a call ended, and refund what the upstream does not bill."""
    trace.ended = error.reason
    if not error.billed:
        meter.refused()


def _redacted(body: bytes, outgoing: Outgoing) -> bytes:
    return body.replace(outgoing.secret.encode(), b"***") if outgoing.secret else body


async def _refusal(call: Call, outgoing: Outgoing, told: Mapping[str, str]) -> GatewayError:
    try:
        body = await call.read(LARGEST_ERROR)
    except UpstreamFailed as error:
        # Whatever became of its words, it has refused: nothing was done that it could bill.
        raise UpstreamFailed(
            "The upstream broke off its error. Try again.", headers=told
        ) from error
    status = call.status
    if outgoing.refusal is not None:
        status, body = outgoing.refusal(status, body)
    refusal = refusal_of(status, call.headers, _redacted(body, outgoing))
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
