"""Budgets over HTTP: never exceeded, told in full, and reserved as the upstream is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway import HELLO, Gateway, open_gateway
from tests.scripted import ScriptedUpstream, chat_stream
from tests.web.refusals import refused
from tests.web.under_way import ask, held

#: As much as the requests here may use: fifty tokens of output, and the prompt.
FULL = {"prompt_tokens": 8, "completion_tokens": 50, "total_tokens": 58}
SPENT = (429, "insufficient_quota", "insufficient_quota")

PLANS: dict[str, Any] = {
    "default": {},
    "capped": {"max_tokens": {"cap": 20}},
    "watched": {"enforce": False, "limits": ["100 tokens/day", "1 requests/minute"]},
}
MODELS = {"o3": {"targets": [{"provider": "openai"}], "price": {"input": 1, "output": 1}}}


@pytest.fixture
async def gate(store_url: str, upstream: ScriptedUpstream) -> AsyncIterator[Gateway]:
    config = {"plans": PLANS, "models": MODELS, "server": {"support": "Ask #vision."}}
    async with open_gateway(store_url, upstream.url, **config) as opened:
        yield opened


async def test_a_budget_is_not_exceeded_one_by_one(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """Requests pass while their worst case fits, and the rest stays unspent."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key("500 tokens")
    statuses = [await ask(gate, key) for _ in range(12)]
    passed = statuses.count(200)
    assert statuses == [200] * passed + [429] * (12 - passed)
    assert (await gate.used(key))["tokens"] == (58 * passed, 0)
    assert 500 - 65 < 58 * passed <= 500
    assert len(upstream.requests) == passed


async def test_a_budget_is_not_exceeded_all_at_once(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """Of fifty at once no more pass than fit, and none waits for another."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key("1000 tokens", team_limits=("600 tokens/day",))
    statuses = await asyncio.gather(*(ask(gate, key) for _ in range(50)))
    passed = statuses.count(200)
    assert set(statuses) == {200, 429}
    used, reserved = (await gate.used(key))["tokens"]
    assert (used, reserved) == (58 * passed, 0)
    assert 0 < used <= 600


async def test_a_spent_budget_is_told_not_to_be_retried(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """Once the worst case no longer fits, the refusal says what was used of what, and whose."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key("100 tokens")
    assert await ask(gate, key) == 200
    async with gate.post(key) as answer:
        headers = answer.headers
        await answer.read()
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers
    error = await refused(gate.post(key), SPENT)
    for word in ("100 tokens", "key 'ci'", "58 used", "Ask #vision."):
        assert word in error["message"]


CAUSES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, str], str | None, str]] = {
    # the key's limits, the team's, type and code, x-should-retry, and who is named
    "a day": (("100 tokens/day",), (), SPENT[1:], "false", "key 'ci'"),
    "a month of the team's": ((), ("100 tokens/month",), SPENT[1:], "false", "team 'vision'"),
    "usd": (("0.0009 usd/month",), (), SPENT[1:], "false", "usd/month"),
    "requests of a day": (("1 requests/day",), (), SPENT[1:], "false", "requests/day"),
    "a bucket": (("1 requests/minute",), (), ("requests", "rate_limit_exceeded"), None, "/minute"),
    "a bucket of tokens": (
        ("100 tokens/minute",),
        (),
        ("tokens", "rate_limit_exceeded"),
        None,
        "tokens/minute",
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_what_is_used_up_is_named(
    gate: Gateway, upstream: ScriptedUpstream, cause: str
) -> None:
    """Every kind of limit is refused with its name, its owner, and when to come again."""
    own, teams, (type_, code), retry, word = CAUSES[cause]
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key(*own, team_limits=teams)
    assert await ask(gate, key) == 200
    async with gate.post(key) as answer:
        assert answer.headers.get("x-should-retry") == retry
        assert int(answer.headers["retry-after"]) >= 1
        assert int(answer.headers["retry-after-ms"]) <= int(answer.headers["retry-after"]) * 1000
    error = await refused(gate.post(key), (429, type_, code))
    assert word in error["message"]
    assert "resets at" in error["message"] or "There is room in" in error["message"]


@pytest.mark.parametrize("limit", ["100 tokens/day", "1 concurrent", "1 requests/day"])
async def test_what_is_only_in_flight_is_worth_a_retry(
    gate: Gateway, upstream: ScriptedUpstream, limit: str
) -> None:
    """Where only reservations are in the way, the client is asked to come again in a second."""
    key = await gate.key(limit)
    async with held(gate, upstream, key):
        async with gate.post(key) as answer:
            assert answer.headers["retry-after"] == "1"
            assert answer.headers.get("x-should-retry") != "false"
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (429, "rate_limit_exceeded")
        assert "in flight" in error["message"]


async def test_a_request_that_could_never_fit(gate: Gateway) -> None:
    """A request larger than the whole limit is not to be retried."""
    key = await gate.key("10 tokens/minute")
    async with gate.post(key) as answer:
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
    await refused(gate.post(key), (429, "tokens", "rate_limit_exceeded"))


async def test_the_rest_is_told_beside_each_answer(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """An answer carries the tightest limits in OpenAI's headers."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key("1000 tokens/day", "100 tokens/minute", "60 requests/minute")
    async with gate.post(key) as answer:
        headers = answer.headers
        await answer.read()
    assert headers["x-ratelimit-limit-tokens"] == "100"
    assert 0 < int(headers["x-ratelimit-remaining-tokens"]) < 50
    assert headers["x-ratelimit-reset-tokens"].endswith("s")
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"


@pytest.mark.parametrize(
    ("model", "name", "sent"),
    [
        ("gpt-4o", "max_tokens", "max_tokens"),
        ("gpt-4o", "max_completion_tokens", "max_tokens"),
        ("o3", "max_tokens", "max_completion_tokens"),
        ("o3", "max_completion_tokens", "max_completion_tokens"),
    ],
)
async def test_the_cap_is_sent_as_the_model_takes_it(
    gate: Gateway, upstream: ScriptedUpstream, model: str, name: str, sent: str
) -> None:
    """A clamped cap is told, and goes up under the name that the model knows, and no other."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key(plan="capped")
    body = {**HELLO, "model": model, "max_tokens": None, name: 50}
    async with gate.post(key, body) as answer:
        assert answer.status == 200
        assert answer.headers["x-visiongate-max-tokens"] == "20"
    asked = upstream.requests[0].json()
    caps = {k: v for k, v in asked.items() if k in ("max_tokens", "max_completion_tokens")}
    assert caps == {sent: 20}


async def test_a_cap_that_binds_nothing_is_not_told(
    gate: Gateway, upstream: ScriptedUpstream
) -> None:
    """A request within its cap carries no such header, and its cap as it came."""
    upstream.script(chat_stream(["Hi"], FULL))
    async with gate.post(await gate.key(plan="capped"), {**HELLO, "max_tokens": 5}) as answer:
        assert "x-visiongate-max-tokens" not in answer.headers
    assert upstream.requests[0].json()["max_tokens"] == 5


async def test_every_choice_is_reserved(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """`n` multiplies what is reserved."""
    key = await gate.key("1M output tokens/day", plan="capped")
    async with held(gate, upstream, key, {**HELLO, "n": 3}):
        assert (await gate.used(key))["output tokens"] == (0, 60)
    assert upstream.requests[0].json()["n"] == 3


async def test_a_plan_that_only_watches(gate: Gateway, upstream: ScriptedUpstream) -> None:
    """`enforce: false` lets all pass, charges it, and tells what it would have refused."""
    upstream.script(chat_stream(["Hi"], FULL))
    key = await gate.key("1M tokens/day", team_plan="watched")
    assert [await ask(gate, key) for _ in range(3)] == [200, 200, 200]
    assert (await gate.used(key))["tokens"] == (3 * 58, 0)
    lines = [x for x in gate.log_lines() if x.get("path") == "/v1/chat/completions"]
    assert [line["observed"] for line in lines] == ["", "budget", "budget"]
    assert [line["reason"] for line in lines] == ["", "", ""]
    samples = await gate.metrics()
    counted = 'visiongate_rejections_total{reason="observed_budget",team="vision"}'
    assert samples[counted] == 2
