"""A request at one target after another, until an answer has begun."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from time import monotonic, time
from typing import Final

from aiohttp import web

from proxy.domain.chat import ChatRequest
from proxy.domain.cuts import Pieces
from proxy.domain.errors import BadRequest, GatewayError
from proxy.domain.health import Standing, lesson_of
from proxy.domain.routing import Model, Tried
from proxy.providers.headers import passed_up
from proxy.store.ledger import Lease
from proxy.turns import in_turns
from proxy.upstream.call import Call, Outgoing
from proxy.web.answer import REQUEST_ID
from proxy.web.door import Door
from proxy.web.trace import TRACE, Failed, Trace, cause_of

#: Seconds before the same target is asked again, twice as many each time, and at random from half
#: of that on.
_BACKOFF: Final = 0.5

#: All attempts of a request begin, and answer, within so many `first_byte` of its first target: one
#: that hangs leaves another one as long.
_PATIENCE: Final = 2

#: The outcome of an attempt that was followed by another, and may be billed all the same.
MAYBE_BILLED: Final = "maybe_billed"


class Attempt(Outgoing, kw_only=True, eq=False):
    """A request as one target gets it, and what the next attempt would be made of.

    `request` is there until the answer has begun. `before` are the attempts that have failed;
    `by` is when the last one must have answered (monotonic; 0.0: no other was made yet).
    """

    standing: Standing
    key: int
    epoch: int
    model: Model
    request: ChatRequest | None
    before: tuple[Tried, ...] = ()
    by: float = 0.0
    owed: Standing | None = None  # where an attempt before may be billed

    def redacted(self, body: bytes) -> bytes:
        """What the upstream says, without its key."""
        return body.replace(self.secret.encode(), b"***") if self.secret else body

    def let_go(self) -> None:
        """The answer has begun, so there is no other attempt: nothing of the request is kept."""
        self.body, self.headers, self.request = (), {}, None

    def served(self) -> None:
        """Something of an answer has come."""
        standing = self.standing
        standing.breaker.served += 1
        if not standing.plain:
            standing.breaker.succeeded(self.epoch, monotonic())
            standing.look()

    def broke_off(self) -> None:
        """The answer has failed on its way."""
        self.standing.breaker.broke_off(self.epoch, monotonic())
        self.standing.look()

    def left(self) -> None:
        """It is over, and nothing is known of the target."""
        self.standing.breaker.left(self.epoch, monotonic())


def choose(door: Door, model: Model) -> Standing:
    """The target that a request goes to first. Raises NoTarget."""
    roster = door.health.rosters[model.name]
    only = roster.only
    if only is not None and only.plain:
        return only
    return roster.choose(monotonic(), door.draw())


def begin(
    http: web.Request,
    door: Door,
    request: ChatRequest,
    model: Model,
    standing: Standing,
    lease: Lease,
) -> Attempt | None:
    """The first attempt, at the target that was chosen; None where that takes more than a
    function: see `begin_slowly`.
    """
    if not standing.plain or door.providers[standing.target.provider].kind.messages(request):
        return None
    return _attempt(http, door, request, None, model, standing, lease)


async def begin_slowly(
    http: web.Request,
    door: Door,
    request: ChatRequest,
    model: Model,
    standing: Standing,
    lease: Lease,
) -> Attempt:
    """The same where messages are to be encoded, or others may have taken the target's last place.

    Raises NoTarget.
    """
    while True:
        messages = await _messages(door, request, standing)
        if standing.plain or standing.takes(monotonic()):
            return _attempt(http, door, request, messages, model, standing, lease)
        standing = choose(door, model)


async def another(
    http: web.Request,
    door: Door,
    trace: Trace,
    attempt: Attempt,
    call: Call,
    failure: GatewayError,
    lease: Lease,
) -> Attempt:
    """The next attempt, once one has failed. Raises the failure where there is none, or what ended
    the wait for it.

    What the client is charged is what it got; where it gets nothing, what an attempt that may be
    billed has cost, once.
    """
    tried = (*attempt.before, _learn(attempt, call, failure))
    owed = attempt.standing if attempt.owed is None and failure.billed else attempt.owed
    by = attempt.by or call.begun + _PATIENCE * attempt.timeouts.first_byte
    if owed is None:
        lease.meter.refused()
    elif attempt.owed is not None:
        lease.meter.called()  # what is owed is an earlier one, whatever this one told
    made = await _next(http, door, attempt, tried, by, lease)
    if made is not None:
        made.before, made.by, made.owed = tried, by, owed
        _tell(door, trace, attempt, call, failure)
        return made
    if owed is not None:
        failure.billed = True
        lease.serve(owed.target.provider, owed.target.price)
    raise failure


async def _next(
    http: web.Request,
    door: Door,
    attempt: Attempt,
    tried: tuple[Tried, ...],
    by: float,
    lease: Lease,
) -> Attempt | None:
    """The attempt after those that were tried, which has to answer in time; None where there is
    none.
    """
    request, model = attempt.request, attempt.model
    if request is None or len(tried) > model.retries:
        return None
    now = monotonic()
    to = door.health.rosters[model.name].another(tried, now, door.draw())
    if to is None:
        return None
    wait = _BACKOFF * 2 ** len(attempt.before) * (1 + door.draw()) / 2 if to.same else 0.0
    if now + wait >= by:
        return None
    if wait:
        await _Pause(door, lease).over(wait)
    try:
        messages = await _messages(door, request, to.standing)
        now = monotonic()
        if now >= by or not to.standing.takes(now):
            return None
        made = _attempt(http, door, request, messages, model, to.standing, lease, to.key)
    except BadRequest:  # by what this kind of provider cannot be asked
        return None
    made.timeouts = replace(made.timeouts, first_byte=min(made.timeouts.first_byte, by - now))
    return made


class _Pause:
    """A wait between two attempts, which ends with the lease or with the worker."""

    def __init__(self, door: Door, lease: Lease) -> None:
        self._door = door
        self._lease = lease
        self._ended = asyncio.Event()
        self._reason: GatewayError | None = None

    def abort(self, reason: GatewayError) -> None:
        self._reason = self._reason or reason
        self._ended.set()

    async def over(self, seconds: float) -> None:
        """Raises what it was aborted with."""
        self._lease.lost = self.abort
        self._door.calls.add(self)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
        finally:
            self._door.calls.discard(self)
            self._lease.lost = None
        if self._reason is not None:
            raise self._reason


async def _messages(door: Door, request: ChatRequest, standing: Standing) -> Pieces | None:
    """The messages as the target's kind of provider encodes them; None: as they came."""
    steps = door.providers[standing.target.provider].kind.messages(request)
    return None if steps is None else await in_turns(steps)


def _attempt(
    http: web.Request,
    door: Door,
    request: ChatRequest,
    messages: Pieces | None,
    model: Model,
    standing: Standing,
    lease: Lease,
    key: int | None = None,
) -> Attempt:
    """The provider's request: its own headers, and of the client's only those on the list."""
    target, trace = standing.target, http[TRACE]
    provider = door.providers[target.provider]
    kind, keys = provider.kind, provider.api_keys
    if key is None:
        draw = door.draw()
        key = int(draw * standing.keys) if standing.plain else standing.key(monotonic(), draw)
    secret = keys[key] if keys else None
    made = Attempt(
        url=target.url,
        headers={REQUEST_ID: trace.id, **kind.headers(secret), **passed_up(http.headers)},
        body=kind.encode(request, messages, target, model.output_param),
        timeouts=provider.timeouts,
        secret=secret,
        transport=provider.transport,
        refusal=kind.refusal,
        translator=kind.translator(request, int(time())) if kind.translator else None,
        standing=standing,
        key=key,
        model=model,
        request=request,
        epoch=standing.breaker.epoch,
    )
    if lease.estimate.price is not target.price or lease.provider != target.provider:
        lease.serve(target.provider, target.price)
        trace.provider = target.provider
    if not standing.plain:
        made.epoch = standing.begin(monotonic())
    standing.in_flight += 1
    return made


def _learn(attempt: Attempt, call: Call, failure: GatewayError) -> Tried:
    """What the failure says of the target and of the key. One request counts once against a
    target: else its own fault, tried again and again, would close the target to others.
    """
    standing, now = attempt.standing, monotonic()
    # Some kinds of provider have other words for a status.
    status = failure.upstream_status or call.status
    lesson = lesson_of(failure, status, call.headers)
    if lesson.counts and all(tried.standing is not standing for tried in attempt.before):
        standing.breaker.failed(attempt.epoch, now)
    elif not lesson.counts and call.status >= 400:
        attempt.served()  # it answers, whatever it says
    else:
        standing.breaker.left(attempt.epoch, now)
    if lesson.aside:
        standing.set_aside(attempt.key, now + lesson.aside)
    standing.look()
    return Tried(standing, attempt.key, lesson)


def _tell(door: Door, trace: Trace, attempt: Attempt, call: Call, failure: GatewayError) -> None:
    """Count an attempt that another one follows, and note it for the log."""
    target = attempt.standing.target
    maybe = failure.billed or (call.asked and call.status in (0, 200))
    outcome = MAYBE_BILLED if maybe else failure.reason
    door.metrics.attempts[target.provider, outcome] += 1
    failed = Failed(target.provider, target.model, outcome, cause_of(failure))
    trace.failed = (*trace.failed, failed)
    failure.__traceback__ = None  # which holds all that the attempt brought
