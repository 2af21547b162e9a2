"""`low_budget: shrink`: what does not fit asks for less output, and nobody overspends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from proxy.domain.errors import LimitExceeded
from proxy.domain.estimate import with_cap
from proxy.domain.meter import StreamMeter
from proxy.domain.tokenizer import tokenizer_for
from proxy.domain.usage import FREE, Amounts, Estimate
from proxy.store.lease import terms_of
from proxy.store.ledger import Lease, Ledger
from tests.gateway import HELLO, Gateway, open_gateway, until
from tests.scripted import (
    Recorded,
    ScriptedUpstream,
    Step,
    chat_stream,
)
from tests.web.refusals import refused
from tests.web.under_way import held

PLANS: dict[str, Any] = {
    "default": {"low_budget": "shrink"},
    "strict": {},
    "watched": {"low_budget": "shrink", "enforce": False},
}
PROMPT = 11  # the worst case of HELLO's
HEADER = "x-visiongate-max-tokens"


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    async with open_gateway(store_url, upstream.url, plans=PLANS) as opened:
        yield opened


@pytest.mark.parametrize(
    ("limit", "n", "cap"),
    [
        ("43 tokens/day", 1, 43 - PROMPT),
        ("43 tokens/minute", 1, 43 - PROMPT),
        ("43 tokens/day", 4, (43 - PROMPT) // 4),
        ("12 tokens", 1, 1),
        ("20 output tokens/month", 3, 6),
        # 2.50 and 10 usd for a million: 11 * 2500 + cap * 10000 nano-usd.
        ("0.0002 usd/day", 1, 17),
        ("0.0002275 usd/day", 1, 20),
        ("0.000227499 usd/day", 1, 19),
    ],
)
async def test_what_is_left_is_asked_for(
    gate: Gateway, upstream: ScriptedUpstream, limit: str, n: int, cap: int
) -> None:
    """The cap that the provider gets, that is told and that is reserved for each choice is the
    largest that fits.
    """
    key = await gate.key(limit, "1M output tokens/hour")
    async with held(gate, upstream, key, {**HELLO, "n": n}) as answer:
        assert (answer.status, answer.headers[HEADER]) == (200, str(cap))
        assert upstream.requests[0].json()["max_tokens"] == cap
        assert (await gate.used(key))["output tokens"] == (0, n * cap)
    assert (await gate.request_line())["shrunk_to"] == cap


async def test_what_others_hold_is_not_left(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """The limits of the team bind too, with what its other keys have used and reserved."""
    team = {"team_limits": ("200 tokens/day",)}
    first = await gate.key("1000 tokens/day", name="first", **team)  # type: ignore[arg-type]
    second = await gate.key("1000 tokens/day", name="second")
    async with held(gate, upstream, first, {**HELLO, "max_tokens": 150}) as answer:
        assert HEADER not in answer.headers
        async with held(gate, upstream, second) as less:
            assert less.headers[HEADER] == str(200 - 150 - 2 * PROMPT) == "28"
            assert less.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_what_fits_is_not_touched(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """A request with room enough is sent as it came, and nothing is said of it."""
    upstream.script(chat_stream(["Hi"]))
    async with gate.post(await gate.key(f"{PROMPT + 50} tokens/day")) as answer:
        assert HEADER not in answer.headers
    assert upstream.requests[0].json()["max_tokens"] == 50
    assert "shrunk_to" not in await gate.request_line()


QUOTA, RATE = "insufficient_quota", "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("limit", "body", "type_", "code", "says"),
    [
        ("11 tokens/day", {}, QUOTA, QUOTA, "needs at least 12. It can never fit: shorten the"),
        ("14 tokens/day", {"n": 4}, QUOTA, QUOTA, "needs at least 15"),
        ("11 tokens/minute", {}, "tokens", RATE, "needs at least 12"),
        ("5 input tokens/day", {}, QUOTA, QUOTA, "needs at least 11"),
        ("0 requests/day", {}, QUOTA, QUOTA, "needs at least 1."),
    ],
)
async def test_not_one_token_fits(
    gate: Gateway, limit: str, body: dict[str, Any], type_: str, code: str, says: str
) -> None:
    """Where not one token for each choice has room, or what is no output, it is refused."""
    key = await gate.key(limit)
    error = await refused(gate.post(key, {**HELLO, **body}), (429, type_, code))
    assert says in error["message"]


async def test_what_is_only_in_flight_is_worth_a_retry(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """A request that would shrink to fit once others have ended is to be tried again, however
    much it asked for.
    """
    key = await gate.key("70 tokens/day")
    async with held(gate, upstream, key), gate.post(key, {**HELLO, "max_tokens": 99}) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert "x-should-retry" not in answer.headers
        assert (await answer.json())["error"]["code"] == RATE


@pytest.mark.parametrize(("plan", "team_plan"), [("strict", "default"), ("default", "strict")])
async def test_one_plan_does_not_shrink_for_another(
    gate: Gateway, plan: str, team_plan: str
) -> None:
    """Where the plan of either the team or the key rejects, nothing shrinks."""
    key = await gate.key("43 tokens/day", plan=plan, team_plan=team_plan)
    await refused(gate.post(key), (429, QUOTA, QUOTA))


async def test_who_only_watches_does_not_shrink(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """With `enforce: false` a request without room passes as it came."""
    upstream.script(chat_stream(["Hi"]))
    async with gate.post(await gate.key("43 tokens/day", team_plan="watched")) as answer:
        assert (answer.status, answer.headers.get(HEADER)) == (200, None)
    assert upstream.requests[0].json()["max_tokens"] == 50
    line = await gate.request_line()
    assert (line["observed"], line.get("shrunk_to")) == ("budget", None)


async def test_two_hundred_at_once(gate: Gateway) -> None:
    """Of two hundred that ask at once and hold what they get, those that fit get all that they
    asked for, one gets the rest, and the budget is reserved to its last token and not beyond.
    """
    access = await gate.door.keys.authenticate(await gate.key("700 tokens/day"))
    whole = with_cap(Estimate(Amounts(1, 11, 0, 0, 0), 11, 0, FREE), 50)
    over = asyncio.Event()
    refused = []
    caps = []

    async def reserve() -> None:
        meter = StreamMeter(tokenizer_for("gpt-4o"), usage_wanted=False)
        try:
            async with gate.door.ledger.reserve(access, "gpt-4o", "openai", whole, meter) as lease:
                caps.append(lease.estimate.cap)
                await over.wait()
        except LimitExceeded as error:
            refused.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(reserve())
        await until(lambda: len(caps) + len(refused) == 200)
        _, states = await gate.door.ledger.peek("vision", access.bounds)
        over.set()
    assert sorted(caps) == [18] + [50] * 11
    assert [(state.used, state.reserved) for state in states] == [(0, 700)]


async def test_many_requests_at_once(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """What the provider was asked for is what was reserved and charged, to the last token."""

    def use_it_all(request: Recorded) -> Iterable[Step]:
        used = {"prompt_tokens": PROMPT, "completion_tokens": request.json()["max_tokens"]}
        return chat_stream(["Hi"], used)

    upstream.script(use_it_all)
    key = await gate.key("700 tokens/day")

    async def ask() -> int:
        async with gate.post(key) as answer:
            await answer.read()
            return int(answer.status)

    statuses = await asyncio.gather(*(ask() for _ in range(40)))
    assert set(statuses) == {200, 429}
    caps = [request.json()["max_tokens"] for request in upstream.requests]
    assert sorted(caps) == [18] + [50] * 11
    assert (await gate.used(key))["tokens"] == (700, 0)


async def test_others_may_be_faster(gate: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds what was left taken again and again is refused in the end, and asked to retry."""
    takes = 0

    async def too_late(self: Ledger, lease: Lease) -> bool:
        nonlocal takes
        takes += 1
        lease.terms = terms_of(lease, self._seconds)
        lease.now, states = await self.peek(lease.team, lease.terms.bounds)
        lease.figures = [figure for s in states for figure in (s.used, s.reserved, s.amount)]
        return False

    monkeypatch.setattr(Ledger, "_take", too_late)
    async with gate.post(await gate.key("43 tokens/day")) as answer:
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert takes == 4
