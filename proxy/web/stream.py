"""A stream, from its upstream to its client, while the meter counts. The hot path."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from aiohttp import web

from proxy.domain.errors import (
    AnswerTooLarge,
    GatewayError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from proxy.domain.meter import StreamMeter
from proxy.domain.sse import BOM, EventTooLarge, holds_data
from proxy.providers.answers import failure_told
from proxy.providers.kind import Translator
from proxy.store.ledger import Lease
from proxy.upstream.call import Call
from proxy.web.answer import REQUEST_ID, error_event
from proxy.web.attempts import Attempt
from proxy.web.door import Door
from proxy.web.outlet import Outlet
from proxy.web.pulse import COMMENT
from proxy.web.trace import Trace, cause_of

_Feed = Callable[[bytes], bytes]

#: How a stream ends that its upstream has broken off.
_BREAKS: Final = (UpstreamFailed.reason, UpstreamTimeout.reason)

#: How most streams begin.
_USUAL: Final = b"data: {"

#: Bytes of an upstream's comments that are held back for its first event.
_HELD: Final = 64 * 1024


_BROKEN_OFF: Final = "The upstream broke off its answer. What came is not complete."


class _SlowClient(GatewayError):
    """A client that reads nothing for too long; it will not read this either."""

    reason = "slow_client"


class Passage:
    """One stream. It has `begun` with the upstream's first event or, where that is long in coming,
    with a comment of ours: from then on there is an `outlet`, and no other upstream can be asked.
    """

    __slots__ = (
        "_attempt",
        "_call",
        "_door",
        "_feed",
        "_headers",
        "_held",
        "_http",
        "_last",
        "_lease",
        "_meter",
        "_observe",
        "_said",
        "_trace",
        "begun",
        "outlet",
    )

    outlet: Outlet
    _last: float  # when something came

    def __init__(
        self,
        call: Call,
        http: web.Request,
        door: Door,
        trace: Trace,
        attempt: Attempt,
        headers: dict[str, str],
        lease: Lease,
    ) -> None:
        self._call = call
        self._http = http
        self._door = door
        self._trace = trace
        self._attempt = attempt
        self._headers = headers
        self._lease = lease
        self._meter = meter = lease.meter
        translator = attempt.translator
        self._feed = meter.feed if translator is None else _translated(translator, meter)
        self._held = b""  # what passed before the first event
        self._said = monotonic()  # when the client was told something
        self.begun = False

    async def run(self) -> web.StreamResponse:
        """Every byte to the client; after the first event a failure ends in an error event and an
        unclean close. Raises GatewayError for what goes wrong before, and ConnectionError where the
        client has gone.
        """
        call, door, meter = self._call, self._door, self._meter
        last, failure, answering = b"", None, False
        door.pulse.add(self)
        try:
            first = await call.first()
            if not self.begun:
                self._open()  # before anything counts as delivered
            passed = self._feed(first)
            if passed[:7] != _USUAL:
                passed = await self._slowly(passed)
            outlet, answering = self._answer(), True
            if call.over or meter.error is not None:
                last, failure = passed, self._told()  # which goes out at once with the end
            else:
                observed = door.metrics.chunk_gap.labels(self._lease.model, self._lease.provider)
                self._observe = observed.observe
                self._last = self._said = monotonic()
                if not outlet.write(passed):
                    self._hold()
                await call.deliver(self.take)
        except (GatewayError, EventTooLarge) as error:
            failure = self._as_ours(error)
            if not answering:
                raise failure from error
        except Exception:
            if self.begun:
                self.break_off(GatewayError("The gateway failed on this request."))
            raise
        finally:
            door.pulse.discard(self)
            door.metrics.streaming -= answering
        self._end(last, failure)
        return outlet.response

    def take(self, data: bytes) -> None:
        """Raises ConnectionError where the client has gone and nobody reads on, and what the
        upstream's error event tells.
        """
        # What is called is a local first: CPython then knows the way to it.
        call, outlet, observe, feed = self._call, self.outlet, self._observe, self._feed
        heard, chunks = call.heard, call.chunks
        observe(heard - self._last)
        self._last = heard
        passed = feed(data)
        if passed:
            self._said = heard
            if chunks and passed is data and outlet.chunked:
                keeps_up = outlet.send(chunks)
            else:
                keeps_up = outlet.write(passed)
            if not keeps_up:
                self._hold()
        if passed is not data and (failure := self._told()) is not None:
            raise failure

    def speak(self, now: float, interval: float) -> float:
        """As Silent has it. What passes is whole events, so a comment can follow; nothing is
        said to a client that has not taken all that it was sent.
        """
        due = self._said + interval
        if now < due:
            return due
        self._said = now
        try:
            if not self.begun:
                self._open()
                held, self._held = self._held, b""
                self._begin().write(held or COMMENT)
            elif self.outlet.idle:
                self.outlet.write(COMMENT)
        except ConnectionError:
            pass  # it has gone, which ends the request in its own way
        return now + interval

    def break_off(self, failure: GatewayError, last: bytes = b"") -> web.StreamResponse:
        """End what has begun in an error event, uncleanly."""
        self.outlet.break_off(last + error_event(failure))
        return self.outlet.response

    async def _slowly(self, passed: bytes) -> bytes:
        """What goes out first, where something else than an answer may have come: up to there
        comments are held back, and an error is a failure like any other.
        """
        call, meter = self._call, self._meter
        came = passed = passed.removeprefix(BOM)  # for which SDKs lose the first event
        while not holds_data(passed):
            if (failure := self._told()) is not None:
                raise failure
            await self._comment(passed)
            data = await call.more()
            passed = self._feed(data)
            if not came:
                came = passed = passed.removeprefix(BOM)
            if not data:
                passed = meter.rest()
                if not meter.complete:
                    raise UpstreamFailed("The upstream answered with an empty stream. Try again.")
                break
        held, self._held = self._held, b""
        return held + passed

    async def _comment(self, passed: bytes) -> None:
        """Keep comments of the upstream's back, or pass them on where the client hears already."""
        self._held += passed
        if self._held and (self.begun or len(self._held) > _HELD):
            held, self._held = self._held, b""
            self._said = monotonic()
            if not self._begin().write(held):
                await self._drained()

    def _open(self) -> None:
        """Raises ConnectionError where the client has gone."""
        headers, drain = self._headers, self._lease.access.drain
        headers[REQUEST_ID] = self._trace.id
        self.outlet = Outlet(self._http, headers, self._door.patience, reads_on=drain)

    def _begin(self) -> Outlet:
        """Something is to go out: what has done its work is let go, for it may last for minutes."""
        if not self.begun:
            self.begun = True
            self._attempt.let_go()
            self._headers.clear()
            self._lease.figures = ()
            self._call.headers = {}
        return self.outlet

    def _answer(self) -> Outlet:
        """The first event has come."""
        outlet = self._begin()
        self._attempt.served()
        self._trace.got_first_byte()
        self._door.metrics.streaming += 1
        return outlet

    def _told(self) -> GatewayError | None:
        """What the upstream's error event tells, if one has come."""
        error = self._meter.error
        return None if error is None else failure_told(self._attempt.redacted(error))

    def _as_ours(self, error: GatewayError | EventTooLarge) -> GatewayError:
        """What goes wrong on the way, fit to be told."""
        if not isinstance(error, GatewayError):
            return AnswerTooLarge("An event of the upstream is too large.")
        redacted = self._attempt.redacted
        error.message = redacted(error.message.encode()).decode()
        if isinstance(error, UpstreamRefused):
            error.body = redacted(error.body)
        return error

    def _hold(self) -> None:
        """Take no more until the client has caught up."""
        self._call.pause()
        self._door.background.start(self._catch_up(), "slow-client")

    async def _catch_up(self) -> None:
        try:
            await self._drained()
        except _SlowClient as error:
            self._call.abort(error)
        except ConnectionError:
            pass  # the next write says so
        finally:
            self._call.resume()

    async def _drained(self) -> None:
        """When the client has caught up. Raises _SlowClient where it takes nothing for too long,
        and ConnectionError.
        """
        try:
            await self.outlet.drained()
        except TimeoutError:
            raise _SlowClient("The client did not read in time.") from None

    def _end(self, last: bytes, failure: GatewayError | None) -> None:
        """End the client's stream after `last`: well, or with what has gone wrong."""
        meter, outlet, trace = self._meter, self.outlet, self._trace
        if failure is None and not meter.well:
            rest = meter.rest()
            if meter.complete:
                last += rest
            else:  # an event without an end is no use to a client, and would swallow the error's
                failure = UpstreamFailed(_BROKEN_OFF)
        if failure is None or meter.complete:  # after the end mark nothing is missed
            outlet.end(last)
            trace.ended = "complete"
            return
        # An error event of the upstream's is a failure, whatever its status would have been.
        trace.ended = UpstreamFailed.reason if failure.said else failure.reason
        trace.cause = cause_of(failure)
        if not failure.billed:
            meter.refused()
        self.break_off(failure, last)
        if trace.ended in _BREAKS:
            self._attempt.broke_off()


def _translated(translator: Translator, meter: StreamMeter) -> _Feed:
    """What the client gets of a stream that is not OpenAI's."""
    meter.so_far = translator.so_far
    return lambda data: meter.feed(translator.feed(data))
